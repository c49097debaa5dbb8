/* What a tenant's subscription is and why, and what becomes of it if nothing changes. */
#include "services/gateway/reading.h"

#include "common/base/id.h"

#include <string.h>

static const char SQL_FORECAST[] = "select catalog.billing_forecast($1::uuid, 45) as item";

static void forecast_not_found(struct http_request *request)
{
        http_answer_problem(request, 404, "not_found", NULL, "there is no such tenant, or billing does not know it");
}

static void forecast_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_text(rows, 0, "item") == NULL)
                forecast_not_found(request);
        else
                http_answer_json(request, 200, pg_json(rows, 0, "item"));
}

void billing_forecast_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_valid(http_segment(request)))
                read_catalog(gateway, request, SQL_FORECAST, PARAMS(http_segment(request)), forecast_answer);
        else
                forecast_not_found(request);
}
