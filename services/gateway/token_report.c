/* Tells the catalog how the tokens are: see token_report.h. */
#include "services/gateway/token_report.h"

#include "common/base/memory.h"

#define INTERVAL SECONDS(10)

static const char SQL_SEEN[] = "select gateway.tokens_seen($1)";

struct token_report {
        struct gateway *gateway;
        uv_timer_t timer;
        bool asking;
};

static void reported(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct token_report *report = context;

        (void)rows;
        (void)err; /* without the catalog there is no alert; the log and the metric told it */
        report->asking = false;
}

static void on_timer(uv_timer_t *timer)
{
        struct token_report *report = timer->data;
        struct service *service = report->gateway->service;

        if (report->asking || service->stopping || !pg_pool_is_up(service->catalog))
                return;
        report->asking = true;
        pg_pool_exec(service->catalog, SECONDS(5), SQL_SEEN, PARAMS(tokens_fault(report->gateway->tokens)), reported,
                     report);
}

struct token_report *token_report_new(struct gateway *gateway)
{
        struct token_report *report = NEW(struct token_report);

        report->gateway = gateway;
        uv_timer_init(&gateway->service->loop, &report->timer);
        report->timer.data = report;
        uv_timer_start(&report->timer, on_timer, SECONDS(1), INTERVAL);
        return report;
}

static void free_report(uv_handle_t *handle)
{
        free(handle->data);
}

void token_report_free(struct token_report *report)
{
        if (report != NULL)
                uv_close((uv_handle_t *)&report->timer, free_report);
}
