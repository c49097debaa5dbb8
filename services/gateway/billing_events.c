/* What became of Stripe's events, for an operator; and the tenants whose suspension waits for one. */
#include "common/base/memory.h"
#include "services/gateway/numbered.h"
#include "services/gateway/paging.h"

#define EVENTS_PAGE 200
#define HELD_PAGE   200

static const char SQL_EVENTS[] = "select number as place, '00000000-0000-0000-0000-000000000000' as id, item "
                                 "from gateway.billing_event "
                                 "where ($1::uuid is null or tenant_id = $1::uuid) "
                                 "and ($2::text is null or outcome = $2) "
                                 "and ($3::text is null or object_id = $3) "
                                 "and ($4::bigint is null or number < $4::bigint) "
                                 "order by number desc limit $5::int";

static const char SQL_REPLAY[] = "select catalog.replay_stripe_event($1::bigint, $2) as outcome";

static const char SQL_HELD[] = "select '-' as place, tenant_id as id, item from gateway.held_suspension "
                               "where ($1::uuid is null or tenant_id > $1::uuid) order by tenant_id limit $2::int";

static const char SQL_RELEASE[] = "select catalog.release_suspensions($1) as released";

static void billing_answer_events(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "items", rows, EVENTS_PAGE);
}

void billing_events_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *tenant = http_query(request, "tenant_id");
        struct page page;

        (void)caller;
        if (tenant != NULL && !id_is_valid(tenant)) {
                http_answer_problem(request, 400, "invalid_field", "tenant_id",
                                    "tenant_id must be a UUID in lower case");
                return;
        }
        if (!page_read(request, EVENTS_PAGE, page_is_number, &page))
                return;
        read_catalog(gateway, request, SQL_EVENTS,
                     PARAMS(tenant, http_query(request, "outcome"), http_query(request, "object_id"), page.place,
                            page.limit_text),
                     billing_answer_events);
        page_release(&page);
}

void billing_event_replay(struct gateway *gateway, struct http_request *request, const char *caller)
{
        if (numbered_is_asked_for(request))
                read_catalog(gateway, request, SQL_REPLAY, PARAMS(http_segment(request), caller), numbered_answer);
}

static void billing_answer_held(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "items", rows, HELD_PAGE);
}

/* All have the same place, so that the cursor's id says where to go on. */
static bool billing_is_place(const char *text)
{
        return text[0] == '-' && text[1] == '\0';
}

void billing_held_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct page page;

        (void)caller;
        if (!page_read(request, HELD_PAGE, billing_is_place, &page))
                return;
        read_catalog(gateway, request, SQL_HELD, PARAMS(page.id, page.limit_text), billing_answer_held);
        page_release(&page);
}

static void billing_answer_release(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        http_answer_json(request, 200, json_pack("{s:I}", "released", (json_int_t)pg_int(rows, 0, "released")));
}

void billing_release_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        read_catalog(gateway, request, SQL_RELEASE, PARAMS(caller), billing_answer_release);
}
