/* Our topics: made by `tenantry init`, checked by `tenantry doctor`. */
#pragma once

#include "common/base/json.h"

#include <librdkafka/rdkafka.h>

/* Creates what is missing on KAFKA_BROKERS; leaves what is there as it is. made, a list, gets the names of those that
 * were made. Returns an exit code. */
int topics_create(int partitions, int replication, json_t *made);
/* Calls visit for each topic we need; present says whether the metadata has it. Returns how many are missing. */
int topics_check(const struct rd_kafka_metadata *metadata,
                 void (*visit)(void *context, const char *topic, bool present), void *context);
