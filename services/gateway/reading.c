/* One query on the catalog, whose rows answer a request: see reading.h. */
#include "services/gateway/reading.h"

#include "common/base/memory.h"
#include "services/gateway/pending.h"

#define READ_TIMEOUT SECONDS(3)

struct reading {
        struct pending pending; /* first */
        struct gateway *gateway;
        rows_answer_fn answer;
};

static void reading_release(struct pending *pending)
{
        free(pending);
}

void read_answer_away(struct http_request *request)
{
        struct err away;

        err_set(&away, ERR_BUSY, "catalog_away", "the catalog does not answer; try again");
        away.retry_after = SECONDS(2);
        http_answer_error(request, &away);
}

static void reading_rows_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct reading *reading = context;
        struct gateway *gateway = reading->gateway;
        rows_answer_fn answer = reading->answer;
        struct http_request *request = pending_done(&reading->pending);

        if (request == NULL)
                return;
        if (err != NULL && err->class == ERR_INPUT) { /* a value PostgreSQL cannot read: invalid UTF-8, no such day */
                http_answer_problem(request, 400, "invalid_value", NULL, "a value in the query cannot be read");
                return;
        }
        if (err != NULL) {
                read_answer_away(request);
                return;
        }
        answer(gateway, request, rows);
}

void read_catalog(struct gateway *gateway, struct http_request *request, const char *sql, size_t count,
                  const char *const *params, rows_answer_fn answer)
{
        struct reading *reading = NEW(struct reading);

        reading->gateway = gateway;
        reading->answer = answer;
        pending_begin(&reading->pending, request, reading_release);
        pg_pool_exec(gateway->service->catalog, READ_TIMEOUT, sql, count, params, reading_rows_arrived, reading);
}
