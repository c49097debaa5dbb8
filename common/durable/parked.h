/* Events of a type that was unknown when they arrived are parked in the catalog. A process that knows the type takes
 * them; it looks every half minute. */
#pragma once

#include "common/durable/intake.h"

struct parked;

/* settings: the same as for messages from Kafka; copied. */
struct parked *parked_new(struct service *service, const struct intake_settings *settings);
/* Stops looking. */
void parked_stop(struct parked *parked);
void parked_free(struct parked *parked);
