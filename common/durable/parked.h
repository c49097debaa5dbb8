/* Events of a type that nobody knew when they came are parked in the catalog. A process that knows the type takes them
 * up again, looking every half minute. */
#pragma once

#include "common/base/json.h"
#include "common/service/service.h"

struct parked;

/* enrich: as for what comes from Kafka (intake.h); or NULL. Expects parked_next() and take_parked() in the service's
 * schema. */
struct parked *parked_new(struct service *service, void (*enrich)(void *context, json_t *data), void *context);
/* Looks no more. */
void parked_stop(struct parked *parked);
void parked_free(struct parked *parked);
