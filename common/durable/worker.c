/* A working service: see worker.h. */
#include "common/durable/worker.h"

#include "common/base/memory.h"
#include "common/durable/intake.h"
#include "common/durable/publisher.h"
#include "common/durable/timers.h"

struct worker {
        struct service *service;
        struct intake *intake;
        struct saga_engine *sagas; /* or NULL */
        struct publisher *publisher;
        struct timers *timers; /* or NULL */
        void (*changed)(void *context);
        void *context;
};

static void worker_facts_changed(void *context)
{
        struct worker *worker = context;

        worker_wake(worker);
        if (worker->changed != NULL)
                worker->changed(worker->context);
}

int worker_new(struct service *service, const struct worker_settings *settings, struct worker **ret, struct err *err)
{
        struct worker *worker = NEW(struct worker);
        struct intake_settings intake = {
                .group = settings->group,
                .contracts = settings->contracts,
                .enrich = settings->enrich,
                .together = settings->together,
                .context = settings->context,
                .taken = worker_facts_changed,
                .taken_context = worker,
        };

        worker->service = service;
        worker->changed = settings->changed;
        worker->context = settings->context;
        if (settings->kinds != NULL)
                worker->sagas = saga_engine_new(service, settings->kinds, settings->sagas);
        worker->publisher = publisher_new(service);
        if (settings->has_timers)
                worker->timers = timers_new(service, worker_facts_changed, worker);
        *ret = worker;
        return intake_new(service, &intake, &worker->intake, err);
}

void worker_wake(struct worker *worker)
{
        if (worker->sagas != NULL)
                saga_engine_wake(worker->sagas);
        publisher_wake(worker->publisher);
}

int worker_ready(struct worker *worker, struct err *err)
{
        if (service_catalog_fits(worker->service, err) < 0)
                return -ERR_BUSY;
        return intake_check(worker->intake, err);
}

void worker_stop(struct worker *worker)
{
        intake_stop(worker->intake);
        if (worker->sagas != NULL)
                saga_engine_stop(worker->sagas);
        publisher_stop(worker->publisher);
}

bool worker_is_idle(const struct worker *worker)
{
        return intake_is_idle(worker->intake) && (worker->sagas == NULL || saga_engine_is_idle(worker->sagas)) &&
               publisher_is_idle(worker->publisher) && pg_pool_pending(worker->service->catalog) == 0;
}

void worker_free(struct worker *worker)
{
        if (worker == NULL)
                return;
        intake_free(worker->intake);
        publisher_free(worker->publisher);
        saga_engine_free(worker->sagas);
        timers_free(worker->timers); /* last: while the producer waits for Kafka, a statement of theirs may end */
        free(worker);
}

/* The worker of this process's only service, for the frame's callbacks. */
static const struct worker_settings *sole_settings;

static int worker_sole_start(struct service *service, const void *config, struct err *err)
{
        (void)config;
        return worker_new(service, sole_settings, (struct worker **)&service->state, err);
}

static int worker_sole_ready(struct service *service, struct err *err)
{
        return worker_ready(service->state, err);
}

static void worker_sole_stop(struct service *service)
{
        worker_stop(service->state);
}

static bool worker_sole_idle(struct service *service)
{
        return worker_is_idle(service->state);
}

static void worker_sole_finish(struct service *service)
{
        worker_free(service->state);
}

int worker_main(int argc, char **argv, const char *name, const char *purpose, const struct worker_settings *settings)
{
        struct service_definition definition = {
                .name = name,
                .purpose = purpose,
                .schema = name,
                .config_size = sizeof(struct service_config),
                .start = worker_sole_start,
                .ready = worker_sole_ready,
                .stop = worker_sole_stop,
                .idle = worker_sole_idle,
                .finish = worker_sole_finish,
        };

        sole_settings = settings;
        return service_main(argc, argv, &definition);
}
