/* Refused messages: shows them, sends them again to their original topic, and discards them. Alerts are resolved here,
 * too. */
#include "common/base/memory.h"
#include "common/durable/dead_letter.h"
#include "services/gateway/paging.h"
#include "services/gateway/pending.h"

#include <string.h>

#define LETTERS_PAGE 200

static const char SQL_LIST[] = "select id as place, '00000000-0000-0000-0000-000000000000' as id, to_jsonb(d) as item "
                               "from gateway.dead_letter_head d "
                               "where ($1::bigint is null or d.id < $1::bigint) "
                               "order by d.id desc limit $2::int";

static const char SQL_ONE[] = "select to_jsonb(d) as letter from gateway.dead_letter d where id = $1::bigint";

static const char SQL_BYTES[] =
        "select topic, message_key, value, headers::text as headers from gateway.dead_letter where id = $1::bigint";

struct replay {
        struct pending pending; /* first */
};

static const char SQL_DROP[] = "select catalog.drop_dead_letter($1::bigint, $2, $3) as outcome";

static const char SQL_RESOLVE[] = "select catalog.resolve_alert_by_hand($1::bigint, $2) as outcome";

static bool id_is_number(struct http_request *request)
{
        if (page_is_number(http_segment(request)))
                return true;
        http_answer_problem(request, 404, "not_found", NULL, "there is no such number");
        return false;
}

static void answer_list(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "items", rows, LETTERS_PAGE);
}

void dead_letters_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct page page;

        (void)caller;
        if (!page_read(request, LETTERS_PAGE, page_is_number, &page))
                return;
        read_catalog(gateway, request, SQL_LIST, PARAMS(page.place, page.limit_text), answer_list);
        page_release(&page);
}

static void answer_one(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 1)
                http_answer_json(request, 200, json_column(rows, 0, "letter"));
        else
                http_answer_problem(request, 404, "not_found", NULL, "there is no such dead letter");
}

void dead_letter_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_number(request))
                read_catalog(gateway, request, SQL_ONE, PARAMS(http_segment(request)), answer_one);
}

static void release(struct pending *pending)
{
        free(pending);
}

static void replayed(void *context, const struct err *err)
{
        struct replay *replay = context;
        struct http_request *request = pending_done(&replay->pending);

        if (request == NULL)
                return;
        if (err != NULL)
                http_answer_error(request, err);
        else
                http_answer_json(request, 202, json_pack("{s:s}", "status", "sent again"));
}

static void send_again(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        struct replay *replay = NEW(struct replay);
        struct dead_letter letter;
        struct err err;

        dead_letter_read(rows, 0, &letter);
        pending_begin(&replay->pending, request, release);
        if (kafka_produce(gateway->producer, &letter.record, replayed, replay, &err) < 0)
                replayed(replay, &err);
        dead_letter_release(&letter);
}

static void answer_replay(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        if (pg_rows_count(rows) == 1)
                send_again(gateway, request, rows);
        else
                http_answer_problem(request, 404, "not_found", NULL, "there is no such dead letter");
}

void dead_letter_replay(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_number(request))
                read_catalog(gateway, request, SQL_BYTES, PARAMS(http_segment(request)), answer_replay);
}

/* The catalog's answer: done, or why not. */
static const struct outcome {
        const char *outcome;
        unsigned status;
        const char *field, *detail;
} OUTCOMES[] = {
        { "dropped", 200, NULL, NULL },
        { "resolved", 200, NULL, NULL },
        { "not_found", 404, NULL, "there is no such number" },
        { "not_confirmed", 409, "confirm",
          "dropping is protected: confirm must be the code that the message was refused with" },
        { "not_published", 409, NULL,
          "its dead-letter topic does not have it yet, so this is the only copy; try again in a moment" },
};

static void answer_outcome(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        const char *outcome = pg_text(rows, 0, "outcome");

        (void)gateway;
        for (size_t i = 0; i < ARRAY_SIZE(OUTCOMES); i++) {
                const struct outcome *o = &OUTCOMES[i];

                if (strcmp(o->outcome, outcome) != 0)
                        continue;
                if (o->status == 200)
                        http_answer_json(request, 200, json_pack("{s:s}", "status", outcome));
                else
                        http_answer_problem(request, o->status, outcome, o->field, o->detail);
                return;
        }
        http_answer_problem(request, 500, "internal", NULL,
                            "the catalog gave an answer that this version does not know");
}

void dead_letter_delete(struct gateway *gateway, struct http_request *request, const char *caller)
{
        if (id_is_number(request))
                read_catalog(gateway, request, SQL_DROP,
                             PARAMS(http_segment(request), http_query(request, "confirm"), caller), answer_outcome);
}

void alert_resolve(struct gateway *gateway, struct http_request *request, const char *caller)
{
        if (id_is_number(request))
                read_catalog(gateway, request, SQL_RESOLVE, PARAMS(http_segment(request), caller), answer_outcome);
}
