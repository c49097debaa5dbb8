/* Kafka as the commands use it: one client for the length of a command, no group, no trace left on the brokers. */
#pragma once

#include "cli/cli.h"

#include <librdkafka/rdkafka.h>

#define BROKERS_TIMEOUT_MS 5000

/* A client for KAFKA_BROKERS and KAFKA_PROPERTIES; complains and returns NULL where that cannot be. The caller ends it
 * with rd_kafka_destroy. */
rd_kafka_t *brokers_open(rd_kafka_type_t type);
