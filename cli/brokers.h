/* Kafka for the commands: one client per command, without a group, leaving no trace on the brokers. */
#pragma once

#include "cli/cli.h"
#include "common/base/err.h"

#include <librdkafka/rdkafka.h>

#define BROKERS_TIMEOUT_MS 5000

/* A client for KAFKA_BROKERS and KAFKA_PROPERTIES, which the caller frees with rd_kafka_destroy. Complains if it cannot
 * be created, and returns an exit code. A producer may cause the brokers to create missing topics, a consumer does
 * not. */
int brokers_open(rd_kafka_type_t type, rd_kafka_t **ret);
/* Waits until a broker answers, for a few seconds at most, and not at all if our login or certificate is refused.
 * Returns 0, or -ERR_BUSY or -ERR_OURS with the brokers' own reason (common/kafka/cause.h has the codes). Call before
 * the client does anything else. */
int brokers_reach(rd_kafka_t *rk, struct err *err);
/* The same for a command that cannot continue without it: complains and returns EXIT_AWAY or EXIT_REFUSED. */
int brokers_demand(rd_kafka_t *rk);
