/* Messages that were refused: to look at, and to send once more to where they came from. */
#include "common/base/memory.h"
#include "common/durable/dead_letter.h"
#include "services/gateway/pending.h"
#include "services/gateway/reading.h"

#include <string.h>

static const char SQL_LIST[] = "select coalesce(jsonb_agg(to_jsonb(d) order by d.id desc), '[]') as list from "
                               "(select * from gateway.dead_letter_head order by id desc limit 200) d";

static const char SQL_ONE[] = "select to_jsonb(d) as letter from gateway.dead_letter d where id = $1::bigint";

static const char SQL_BYTES[] =
        "select topic, message_key, value, headers::text as headers from gateway.dead_letter where id = $1::bigint";

struct replay {
        struct pending pending; /* first */
};

static bool id_is_number(struct http_request *request)
{
        const char *id = http_segment(request);

        if (strspn(id, "0123456789") == strlen(id) && strlen(id) < 19)
                return true;
        http_answer_problem(request, 404, "not_found", NULL, "there is no such dead letter");
        return false;
}

static void answer_list(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        http_answer_json(request, 200, json_pack("{s:o}", "items", json_column(rows, 0, "list")));
}

void dead_letters_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        read_catalog(gateway, request, SQL_LIST, NO_PARAMS, answer_list);
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
