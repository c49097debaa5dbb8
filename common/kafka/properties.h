/* KAFKA_PROPERTIES: what an operator tells librdkafka beside what is ours to say. */
#pragma once

#include "common/base/err.h"

#include <librdkafka/rdkafka.h>

/* Sets "name=value;name=value"; "\\;" is a semicolon of a value. NULL is fine. Returns 0, or -ERR_INPUT naming the
 * property, but never what may be a part of a secret value. */
int kafka_properties_set(rd_kafka_conf_t *conf, const char *properties, struct err *err);
/* A sentence for the operator where these settings will not work with the librdkafka that is linked, or NULL. The
 * caller frees. */
char *kafka_properties_advice(const rd_kafka_conf_t *conf);
