/* Alerts: lists them a page at a time, and resolves one. */
#include "services/gateway/numbered.h"
#include "services/gateway/paging.h"

#define ALERTS_PAGE 200

static const char SQL_ALERTS[] = "select alert_id as place, '00000000-0000-0000-0000-000000000000' as id, to_jsonb(a) "
                                 "as item from gateway.alert a "
                                 "where ($1::boolean or resolved_at is null) "
                                 "and ($2::bigint is null or alert_id < $2::bigint) "
                                 "order by alert_id desc limit $3::int";

static const char SQL_RESOLVE[] = "select catalog.resolve_alert_by_hand($1::bigint, $2) as outcome";

static void alerts_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "items", rows, ALERTS_PAGE);
}

void alerts_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *all = http_query(request, "all");
        struct page page;

        (void)caller;
        if (!page_read(request, ALERTS_PAGE, page_is_number, &page))
                return;
        read_catalog(gateway, request, SQL_ALERTS, PARAMS(all ? "true" : "false", page.place, page.limit_text),
                     alerts_answer);
        page_release(&page);
}

void alert_resolve(struct gateway *gateway, struct http_request *request, const char *caller)
{
        if (numbered_is_asked_for(request))
                read_catalog(gateway, request, SQL_RESOLVE, PARAMS(http_segment(request), caller), numbered_answer);
}
