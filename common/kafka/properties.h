/* KAFKA_PROPERTIES: librdkafka settings of the operator, in addition to ours. */
#pragma once

#include "common/base/err.h"

#include <librdkafka/rdkafka.h>

/* Sets "name=value;name=value"; "\\;" is a semicolon inside a value. NULL is fine. Returns 0, or -ERR_INPUT naming the
 * property, but never anything that may be part of a secret value. */
int kafka_properties_set(rd_kafka_conf_t *conf, const char *properties, struct err *err);
/* A sentence for the operator if these settings will not work with the linked librdkafka, or NULL. The caller frees. */
char *kafka_properties_advice(const rd_kafka_conf_t *conf);
