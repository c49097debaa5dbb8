/* POST /api/admin/migrations/runs/{id}/signals: what monitoring says of a run, or of whichever is at work. */
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "services/gateway/migrations.h"
#include "services/gateway/pending.h"
#include "services/gateway/reading.h"

#include <string.h>

/* A caller that may do nothing but signal cannot look up which run is at work. */
#define AT_WORK        "active"
#define LOOKUP_TIMEOUT SECONDS(3)

static const char SQL_ACTIVE[] = "select run_id from gateway.migration_run where state not in "
                                 "('queued', 'completed', 'rolled_back', 'cancelled')";

/* One to the run at work, until the catalog has said which that is. */
struct signal {
        struct pending pending; /* first */
        struct gateway *gateway;
        char *caller;
};

static void signals_release(struct pending *pending)
{
        struct signal *signal = (struct signal *)pending;

        free(signal->caller);
        free(signal);
}

static void signals_run_looked_up(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct signal *signal = context;
        auto_free char *caller = mem_copy_text(signal->caller); /* sending it lets go of signal */
        struct gateway *gateway = signal->gateway;
        struct http_request *request = pending_done(&signal->pending);

        if (request == NULL)
                return;
        if (err != NULL)
                read_answer_away(request);
        else if (pg_rows_count(rows) == 0)
                http_answer_problem(request, 404, "not_found", NULL, "no run is at work");
        else
                migration_command_send(gateway, request, caller, "signal", pg_text(rows, 0, "run_id"));
}

static void signals_look_up_run(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct signal *signal = NEW(struct signal);

        signal->gateway = gateway;
        signal->caller = mem_copy_text(caller); /* copied, as the tokens may be reread meanwhile */
        pending_begin(&signal->pending, request, signals_release);
        pg_pool_exec(gateway->service->catalog, LOOKUP_TIMEOUT, SQL_ACTIVE, NO_PARAMS, signals_run_looked_up, signal);
}

void migration_signal_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *run = http_segment(request);

        if (strcmp(run, AT_WORK) == 0)
                signals_look_up_run(gateway, request, caller);
        else
                migration_command_send(gateway, request, caller, "signal", run);
}
