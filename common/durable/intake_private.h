/* Shared by intake.c (which partitions, and from which offset), intake_message.c (what a message is) and intake_batch.c
 * (its way into the catalog). */
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
        int refusals;          /* statements in a row that the catalog could not run */
        int64_t refused_at;    /* time of the last of them; nothing is retried before its delay is over */
        struct batch *waiting; /* for PostgreSQL */
        struct metric *results[INTAKE_RESULTS], *seconds, *lag;
};

/* What the catalog must know about a message: its position, the event in it, the verdict ("event", "dead", "park" or
 * "nothing"), and of a dead one the bytes. Returns an object that the caller owns. */
json_t *intake_describe(struct intake *intake, const struct kafka_message *message);
/* Adds the message's bytes, which the catalog keeps when it refuses what looked well: an id that another event has. */
void intake_add_bytes(json_t *described, const struct kafka_message *message);
/* Turns the description into that of a message permanently refused by the catalog; err says why. */
void intake_describe_as_dead(json_t *described, const struct err *err);

/* A callback of the consumer: sends the message, and those after it that have arrived, to the catalog. */
void intake_take(void *context, struct kafka_message *message);
/* Sends the messages that wait for the catalog. */
void intake_send_waiting(struct intake *intake);
/* The number of messages in hand that wait for the catalog. */
size_t intake_waiting(const struct intake *intake);
/* Frees the waiting messages; Kafka still has them. */
void intake_forget_waiting(struct intake *intake);
