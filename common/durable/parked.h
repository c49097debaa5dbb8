/* Events of a type that nobody knew when they came are parked in the catalog. A process that knows the type takes them
 * up again, looking every half minute. */
#pragma once

#include "common/durable/intake.h"

struct parked;

/* settings: as for what comes from Kafka; copied. */
struct parked *parked_new(struct service *service, const struct intake_settings *settings);
/* Looks no more. */
void parked_stop(struct parked *parked);
void parked_free(struct parked *parked);
