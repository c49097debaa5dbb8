/* Outcomes on their way to the catalog: see results.h. */
#include "services/migrator/results.h"

#include "common/base/log.h"
#include "common/base/memory.h"

#define TIMEOUT SECONDS(10)
#define LINGER  10 /* ms: so that those that end at almost the same time cost one statement */

struct results {
        struct service *service;
        const char *sql;
        json_t *waiting;
        json_t *sent; /* NULL: none are on their way */
        void (*taken)(void *context);
        void *context;
        uv_timer_t linger;
};

static void results_on_linger(uv_timer_t *timer)
{
        results_send(timer->data);
}

struct results *results_new(struct service *service, const char *sql, void (*taken)(void *context), void *context)
{
        struct results *results = NEW(struct results);

        results->service = service;
        results->sql = sql;
        results->waiting = json_array();
        results->taken = taken;
        results->context = context;
        uv_timer_init(&service->loop, &results->linger);
        results->linger.data = results;
        return results;
}

static void results_on_closed(uv_handle_t *handle)
{
        struct results *results = handle->data;

        json_decref(results->waiting);
        json_decref(results->sent);
        free(results);
}

void results_free(struct results *results)
{
        if (results != NULL)
                uv_close((uv_handle_t *)&results->linger, results_on_closed);
}

void results_add(struct results *results, json_t *result)
{
        json_array_append_new(results->waiting, result);
        if (!uv_is_active((uv_handle_t *)&results->linger))
                uv_timer_start(&results->linger, results_on_linger, LINGER, 0);
}

static void results_answered(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct results *results = context;
        json_t *sent = TAKE_PTR(results->sent);

        (void)rows;
        if (err != NULL) {
                log_warn("results of migrations could not be recorded yet", "error", err->message, NULL);
                json_array_extend(results->waiting, sent);
                json_decref(sent);
                return; /* the timer tries again */
        }
        json_decref(sent);
        results_send(results);
        results->taken(results->context);
}

void results_send(struct results *results)
{
        auto_free char *text = NULL;

        if (results->sent != NULL || json_array_size(results->waiting) == 0 ||
            !pg_pool_is_up(results->service->catalog))
                return;
        results->sent = TAKE_PTR(results->waiting);
        results->waiting = json_array();
        text = json_print(results->sent);
        pg_pool_exec(results->service->catalog, TIMEOUT, results->sql, PARAMS(text), results_answered, results);
}

bool results_is_empty(const struct results *results)
{
        return results->sent == NULL && json_array_size(results->waiting) == 0;
}
