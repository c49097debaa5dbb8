/* Reports the state of the tokens to the catalog: see token_report.h. */
#include "services/gateway/token_report.h"

#include "common/base/memory.h"
#include "common/service/periodic.h"

#define INTERVAL SECONDS(10)

static const char SQL_SEEN[] = "select gateway.tokens_seen($1)";

struct token_report {
        struct gateway *gateway;
        struct periodic *periodic;
};

static void token_report_written(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        (void)err; /* without the catalog there is no alert; log and metric have reported it */
}

static void token_report_act(void *context)
{
        struct token_report *report = context;

        periodic_ask(report->periodic, SECONDS(5), SQL_SEEN, PARAMS(tokens_fault(report->gateway->tokens)),
                     token_report_written);
}

struct token_report *token_report_new(struct gateway *gateway)
{
        struct token_report *made = NEW(struct token_report);

        made->gateway = gateway;
        made->periodic = periodic_new(gateway->service, SECONDS(1), INTERVAL, token_report_act, made);
        return made;
}

void token_report_free(struct token_report *report)
{
        if (report == NULL)
                return;
        periodic_free(report->periodic);
        free(report);
}
