/* Our topics: created by `tenantry init`, checked by `tenantry doctor`. */
#pragma once

#include "common/base/json.h"

#include <librdkafka/rdkafka.h>

/* Creates missing topics on KAFKA_BROKERS; leaves existing ones as they are. snapshots: a list of the names of
 * services' own topics of snapshots, which are compacted; or NULL. made, a list, gets the names of the created ones.
 * Returns an exit code. */
int topics_create(int partitions, int replication, const json_t *snapshots, json_t *made);
/* Queries each of our topics by name, so that one we may not see differs from a missing one: its err says which. rk
 * must be a consumer, since a producer's query might create them. The caller frees *ret with
 * rd_kafka_metadata_destroy. */
rd_kafka_resp_err_t topics_ask(rd_kafka_t *rk, const struct rd_kafka_metadata **ret);
