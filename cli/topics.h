/* Our topics: made by `tenantry init`, checked by `tenantry doctor`. */
#pragma once

#include "common/base/json.h"

#include <librdkafka/rdkafka.h>

/* Creates what is missing on KAFKA_BROKERS; leaves what is there as it is. made, a list, gets the names of those that
 * were made. Returns an exit code. */
int topics_create(int partitions, int replication, json_t *made);
/* Asks for each of our topics by its name, so that one we may not see differs from one that is missing: its err says.
 * rk is a consumer, as a producer's question might make them. The caller ends *ret with rd_kafka_metadata_destroy. */
rd_kafka_resp_err_t topics_ask(rd_kafka_t *rk, const struct rd_kafka_metadata **ret);
