/* How Stripe and the catalog compare, for an operator; and the wish to compare now. */
#include "services/gateway/reading.h"

static const char SQL_GET[] = "select item from gateway.billing_reconcile";

static const char SQL_POST[] = "select catalog.reconcile_billing($1) as begun";

static void reconcile_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        http_answer_json(request, 200, pg_json(rows, 0, "item"));
}

void billing_reconcile_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        read_catalog(gateway, request, SQL_GET, NO_PARAMS, reconcile_answer);
}

static void reconcile_answer_begun(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        http_answer_json(request, 200, json_pack("{s:I}", "begun", (json_int_t)pg_int(rows, 0, "begun")));
}

void billing_reconcile_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        read_catalog(gateway, request, SQL_POST, PARAMS(caller), reconcile_answer_begun);
}
