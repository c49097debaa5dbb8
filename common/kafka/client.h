/* Shared by producer and consumer: our common librdkafka settings, and its queues on our loop. */
#pragma once

#include "common/base/err.h"

#include <librdkafka/rdkafka.h>
#include <uv.h>

struct kafka_settings {
        const char *brokers;
        const char *client_id;
        const char *properties; /* more librdkafka settings, "name=value;name=value" (security, tuning), or NULL */
};

/* A setting that KAFKA_PROPERTIES may override, by whichever of its names. */
struct kafka_default {
        const char *name, *value;
};

/* The settings every client of ours starts from, and defaults (borrowed; ends with a NULL name; NULL: no more of them).
 * Returns 0 and *ret (given to kafka_client_new by the caller), or -ERR_INPUT naming the property. */
int kafka_client_conf(const struct kafka_settings *settings, const struct kafka_default *defaults,
                      rd_kafka_conf_t **ret, struct err *err);
/* A client with these settings, of which it takes ownership. Returns 0 and *ret; -ERR_INPUT if librdkafka refuses the
 * settings; -ERR_BUSY if it could not start this time. */
int kafka_client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, rd_kafka_t **ret, struct err *err);
/* Whether librdkafka accepts these settings, including certificates; no broker is contacted. Returns like
 * kafka_client_new. */
int kafka_client_check(const struct kafka_settings *settings, struct err *err);
/* A sentence for the operator if these settings will not work with the linked librdkafka, or NULL. The caller frees. */
char *kafka_client_advice(const struct kafka_settings *settings);
/* Sets one property that is known to exist. */
void kafka_client_set(rd_kafka_conf_t *conf, const char *name, const char *value);

/* Calls serve on the loop thread whenever the queue has events, and at least twice a second. */
struct kafka_wakeup;
struct kafka_wakeup *kafka_wakeup_new(uv_loop_t *loop, rd_kafka_queue_t *queue, void (*serve)(void *context),
                                      void *context);
/* Call before the queue is destroyed. */
void kafka_wakeup_free(struct kafka_wakeup *wakeup);

/* Destroys a client on a worker thread, because librdkafka may take a while; takes ownership of rk. */
void kafka_client_destroy_later(uv_loop_t *loop, rd_kafka_t *rk);
