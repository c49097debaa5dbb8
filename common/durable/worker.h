/* A working service: it turns events from Kafka into facts, carries out the resulting work in sagas, publishes changes,
 * and handles timers if it has any. Combines these parts, so that a service adds only its own. */
#pragma once

#include "common/contracts/contract.h"
#include "common/durable/saga.h"

struct worker;

struct worker_settings {
        const char *group;                    /* the consumer group */
        const struct contract *contracts;     /* of the events it takes; see intake.h */
        const struct saga_kind *const *kinds; /* ends with NULL; NULL: a service without sagas */
        size_t sagas;                         /* sagas in hand at once */
        bool has_timers;                      /* see timers.h: its schema then has timer_due */
        const char *together;                 /* see intake.h; or NULL */
        /* Adds what the catalog must know in addition to an event; or NULL. */
        void (*enrich)(void *context, json_t *data);
        /* Facts changed: there may be work for parts of the service's own; or NULL. */
        void (*changed)(void *context);
        void *context;
};

/* settings: everything it points to is borrowed. Expects in the service's schema what intake.h and saga.h require.
 * Returns 0 and *ret, or a negative error. */
int worker_new(struct service *service, const struct worker_settings *settings, struct worker **ret, struct err *err);
/* Facts changed: work may be due, and there may be something to publish. */
void worker_wake(struct worker *worker);
/* For the service's ready(): 0, or why it cannot work now. */
int worker_ready(struct worker *worker, struct err *err);
/* Takes no new work; puts down what it has in hand. */
void worker_stop(struct worker *worker);
bool worker_is_idle(const struct worker *worker);
/* NULL is fine. */
void worker_free(struct worker *worker);

/* The whole life of a process that is only a worker, with the options common to all services. Returns its exit
 * status. */
int worker_main(int argc, char **argv, const char *name, const char *purpose, const struct worker_settings *settings);
