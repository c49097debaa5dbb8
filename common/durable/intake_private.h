/* What intake.c (which partitions, from where on), intake_message.c (what a message is) and intake_batch.c (its way
 * into the catalog) share. */
#pragma once

#include "common/durable/intake.h"
#include "common/durable/parked.h"
#include "common/kafka/consumer.h"

#define INTAKE_STATEMENT_TIMEOUT SECONDS(10)

enum intake_result {
        INTAKE_NEW,
        INTAKE_SKIPPED,
        INTAKE_DEAD,
        INTAKE_PARKED,
        INTAKE_RETRIED,
        INTAKE_RESULTS,
};

struct intake {
        struct service *service;
        struct intake_settings settings;
        struct kafka_consumer *consumer;
        struct parked *parked;
        uv_timer_t retry;
        struct kafka_position *positions;
        size_t position_count;
        unsigned assignment;
        bool assigned, stopped, asking;
        int refusals;          /* by the catalog, of statements it cannot run, since it last took something */
        int64_t refused_at;    /* the last of them; nothing is asked again before its pause is over */
        struct batch *waiting; /* for PostgreSQL */
        struct metric *results[INTAKE_RESULTS], *seconds, *lag;
};

/* What the catalog must know of a message: where it stood, the bytes, the event in it, and the verdict: "event",
 * "dead", "park" or "nothing". Returns an object of the caller's. */
json_t *intake_describe(struct intake *intake, const struct kafka_message *message);
/* Makes of what was described a message that the catalog refused for good: the error says why. */
void intake_describe_as_dead(json_t *described, const struct err *err);

/* An event of the consumer: the message and those behind it that have come are on their way into the catalog. */
void intake_take(void *context, struct kafka_message *message);
/* Sends what waits for the catalog. */
void intake_send_waiting(struct intake *intake);
/* Messages in hand that wait for the catalog. */
size_t intake_waiting(const struct intake *intake);
/* Frees what waits; Kafka still has it. */
void intake_forget_waiting(struct intake *intake);
