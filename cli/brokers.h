/* Kafka as the commands use it: one client for the length of a command, no group, no trace left on the brokers. */
#pragma once

#include "cli/cli.h"
#include "common/base/err.h"

#include <librdkafka/rdkafka.h>

#define BROKERS_TIMEOUT_MS 5000

/* A client for KAFKA_BROKERS and KAFKA_PROPERTIES, ended by the caller with rd_kafka_destroy. Complains where that
 * cannot be, and returns an exit code. A producer may have missing topics made by the brokers, a consumer does not. */
int brokers_open(rd_kafka_type_t type, rd_kafka_t **ret);
/* Waits until a broker answers us, a few seconds at most, and not at all where our login or certificate is refused.
 * Returns 0, or -ERR_BUSY or -ERR_OURS with the brokers' own reason (common/kafka/cause.h has the codes). Before the
 * client does anything else. */
int brokers_reach(rd_kafka_t *rk, struct err *err);
/* The same for a command that cannot go on otherwise: complains and returns EXIT_AWAY or EXIT_REFUSED. */
int brokers_demand(rd_kafka_t *rk);
