/* From Kafka into the catalog: each message becomes facts, in one transaction with the partition's next offset, or a
 * dead letter that says why not. While PostgreSQL is down, messages wait in Kafka. */
#pragma once

#include "common/contracts/contract.h"
#include "common/kafka/cloudevent.h"
#include "common/pg/pool.h"
#include "common/service/service.h"

struct intake;

struct intake_settings {
        const char *group;                /* the consumer group */
        const struct contract *contracts; /* of the events it takes, ends with a NULL type; they name the topics */
        /* Adds what the catalog must know in addition to the event (the driver of new tenants); or NULL. */
        void (*enrich)(void *context, json_t *data);
        void *context;
        /* The topic of which several messages of one key are taken in one transaction; or NULL. Only where the second
         * locks nothing that the first has not: see batch_ends_before. */
        const char *together;
        /* Facts changed: work may be due; or NULL. */
        void (*taken)(void *taken_context);
        void *taken_context;
};

/* Expects in the service's schema the tables created by durable.create_tables, and a function accept_event(event, data)
 * that turns a valid event into facts, in the transaction in which it is taken; a function finish_batch(), if it has
 * one, is called in it after the last. Returns 0 and *ret, or -ERR_INPUT. */
int intake_new(struct service *service, const struct intake_settings *settings, struct intake **ret, struct err *err);
/* Takes no new messages. */
void intake_stop(struct intake *intake);
bool intake_is_idle(const struct intake *intake);
/* 0 once it has its share of the partitions; before that, or if its login may see none, -ERR_BUSY with the reason as
 * far as known. */
int intake_check(const struct intake *intake, struct err *err);
void intake_free(struct intake *intake);
