/* Refused messages: shows them, sends them again to their original topic, and discards them. */
#include "common/base/memory.h"
#include "common/durable/dead_letter.h"
#include "services/gateway/numbered.h"
#include "services/gateway/paging.h"
#include "services/gateway/pending.h"

#define LETTERS_PAGE 200

static const char SQL_LIST[] = "select id as place, '00000000-0000-0000-0000-000000000000' as id, to_jsonb(d) as item "
                               "from gateway.dead_letter_head d "
                               "where ($1::bigint is null or d.id < $1::bigint) "
                               "order by d.id desc limit $2::int";

static const char SQL_ONE[] = "select to_jsonb(d) as letter from gateway.dead_letter d where id = $1::bigint";

static const char SQL_BYTES[] =
        "select topic, message_key, value, headers::text as headers from gateway.dead_letter where id = $1::bigint";

static const char SQL_DROP[] = "select catalog.drop_dead_letter($1::bigint, $2, $3) as outcome";

struct replay {
        struct pending pending; /* first */
};

static void dead_letter_answer_list(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
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
        read_catalog(gateway, request, SQL_LIST, PARAMS(page.place, page.limit_text), dead_letter_answer_list);
        page_release(&page);
}

static void dead_letter_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 1)
                http_answer_json(request, 200, pg_json(rows, 0, "letter"));
        else
                http_answer_problem(request, 404, "not_found", NULL, "there is no such dead letter");
}

void dead_letter_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (numbered_is_asked_for(request))
                read_catalog(gateway, request, SQL_ONE, PARAMS(http_segment(request)), dead_letter_answer);
}

static void dead_letter_free_replay(struct pending *pending)
{
        free(pending);
}

static void dead_letter_replayed(void *context, const struct err *err)
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

static void dead_letter_send_again(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        struct replay *replay = NEW(struct replay);
        struct dead_letter letter;
        struct err err;

        dead_letter_read(rows, 0, &letter);
        pending_begin(&replay->pending, request, dead_letter_free_replay);
        if (kafka_produce(gateway->producer, &letter.record, dead_letter_replayed, replay, &err) < 0)
                dead_letter_replayed(replay, &err);
        dead_letter_release(&letter);
}

static void dead_letter_answer_replay(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        if (pg_rows_count(rows) == 1)
                dead_letter_send_again(gateway, request, rows);
        else
                http_answer_problem(request, 404, "not_found", NULL, "there is no such dead letter");
}

void dead_letter_replay(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (numbered_is_asked_for(request))
                read_catalog(gateway, request, SQL_BYTES, PARAMS(http_segment(request)), dead_letter_answer_replay);
}

void dead_letter_delete(struct gateway *gateway, struct http_request *request, const char *caller)
{
        if (numbered_is_asked_for(request))
                read_catalog(gateway, request, SQL_DROP,
                             PARAMS(http_segment(request), http_query(request, "confirm"), caller), numbered_answer);
}
