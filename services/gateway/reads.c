/* What the catalog tells about tenants, operations and the fleet. */
#include "common/base/crypto.h"
#include "common/base/id.h"
#include "common/base/memory.h"
#include "common/contracts/operation_id.h"
#include "services/gateway/reading.h"

#include <stdio.h>
#include <string.h>

#define PAGE_DEFAULT 50
#define PAGE_LIMIT   500

/* First which tenants the page shows, then the snapshots of these and no others. */
static const char SQL_TENANTS[] =
        "with page as materialized ("
        "select tenant_id, created_at from gateway.tenant_row "
        "where ($1::text is null or state = $1) "
        "and ($2::text is null or slug = $2) "
        "and ($3::text is null or plan = $3) "
        "and ($4::timestamptz is null or (created_at, tenant_id) > ($4::timestamptz, $5::uuid)) "
        "and state <> 'deprovisioned' "
        "order by created_at, tenant_id "
        "limit $6::int) "
        "select p.tenant_id, to_char(p.created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as created_at, "
        "t.snapshot "
        "from page p cross join lateral (select snapshot from gateway.tenant where tenant_id = p.tenant_id) t "
        "order by p.created_at, p.tenant_id";

static const char SQL_TENANT[] =
        "select t.tenant_id, t.state, t.snapshot, "
        "(select coalesce(jsonb_agg(to_jsonb(h) - 'tenant_id' order by h.seq desc), '[]') from "
        "(select * from gateway.history where tenant_id = t.tenant_id order by seq desc limit 100) h) as history, "
        "(select coalesce(jsonb_agg(to_jsonb(b) - 'tenant_id' order by b.created_at desc), '[]') from "
        "(select * from gateway.backup where tenant_id = t.tenant_id order by created_at desc limit 20) b) as backups "
        "from gateway.tenant t where t.tenant_id = $1::uuid";

static const char SQL_CONNECTION[] = "select * from gateway.connection where tenant_id = $1::uuid";

static const char SQL_OPERATION[] =
        "select to_jsonb(o) - 'body_hash' as operation from gateway.operation o where operation_id = $1::uuid";

/* What is not in order first. */
static const char SQL_INVENTORY[] =
        "with page as materialized ("
        "select * from gateway.inventory "
        "where ($1::boolean is null or (verdict = 'ours', driver, server, name) > ($1::boolean, $2, $3, $4)) "
        "order by verdict = 'ours', driver, server, name "
        "limit $5::int) "
        "select (select coalesce(jsonb_agg(to_jsonb(p) order by p.verdict = 'ours', p.driver, p.server, p.name), '[]') "
        "from page p) as list, "
        "(select archive from gateway.archive) as archive";

static const char SQL_ALERTS[] =
        "select coalesce(jsonb_agg(to_jsonb(a) order by a.alert_id desc), '[]') as list from "
        "(select * from gateway.alert where $1::boolean or resolved_at is null order by alert_id desc limit 200) a";

static void not_found(struct http_request *request, const char *what)
{
        auto_free char *detail = mem_printf("there is no such %s", what);

        http_answer_problem(request, 404, "not_found", NULL, detail);
}

/* "TIME TENANT" in base64url: where the next page begins. */
static bool parse_cursor(const char *cursor, char **ret_time, char **ret_tenant)
{
        auto_free unsigned char *plain = NULL;
        char *space;
        int length;

        if (strlen(cursor) > 200)
                return false;
        plain = mem_alloc(strlen(cursor) + 1, 1);
        length = crypto_base64_decode(cursor, plain);
        if (length != 26 + 1 + ID_LENGTH)
                return false;
        space = (char *)plain + 26;
        if (*space != ' ' || strspn((char *)plain, "0123456789-:. ") < 26 || !id_is_valid(space + 1))
                return false;
        *space = '\0';
        *ret_time = mem_printf("%sZ", (char *)plain);
        *ret_tenant = mem_copy_text(space + 1);
        return true;
}

/* How many a page shows; answers what is no such number. */
static bool read_limit(struct http_request *request, long otherwise, char ret[16])
{
        const char *text = http_query(request, "limit");
        char *end = "";
        long count = text ? strtol(text, &end, 10) : otherwise;

        if (count < 1 || count > PAGE_LIMIT || *end != '\0') {
                http_answer_problem(request, 400, "invalid_field", "limit", "limit must be 1 to 500");
                return false;
        }
        snprintf(ret, 16, "%ld", count);
        return true;
}

static void refuse_cursor(struct http_request *request)
{
        http_answer_problem(request, 400, "invalid_field", "cursor", "this cursor was not given out by us");
}

static void answer_tenants(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        json_t *list = json_array(), *body = json_pack("{s:o}", "tenants", list);
        int count = pg_rows_count(rows);
        const char *limit = http_query(request, "limit");

        (void)gateway;
        for (int row = 0; row < count; row++)
                json_array_append_new(list, json_column(rows, row, "snapshot"));
        if (count > 0 && count == (limit ? atoi(limit) : PAGE_DEFAULT)) {
                auto_free char *at = mem_printf("%s %s", pg_text(rows, count - 1, "created_at"),
                                                pg_text(rows, count - 1, "tenant_id"));
                auto_free char *cursor = crypto_base64url(at, strlen(at));

                json_object_set_new(body, "next_cursor", json_string(cursor));
        } else {
                json_object_set_new(body, "next_cursor", json_null());
        }
        http_answer_json(request, 200, body);
}

void tenants_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *cursor = http_query(request, "cursor");
        auto_free char *time = NULL, *tenant = NULL;
        char limit[16];

        (void)caller;
        if (cursor != NULL && !parse_cursor(cursor, &time, &tenant)) {
                refuse_cursor(request);
                return;
        }
        if (!read_limit(request, PAGE_DEFAULT, limit))
                return;
        read_catalog(gateway, request, SQL_TENANTS,
                     PARAMS(http_query(request, "state"), http_query(request, "subdomain"), http_query(request, "plan"),
                            time, tenant, limit),
                     answer_tenants);
}

static void answer_tenant(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        json_t *body;

        (void)gateway;
        if (pg_rows_count(rows) == 0) {
                not_found(request, "tenant");
                return;
        }
        body = json_column(rows, 0, "snapshot");
        if (json_is_null(body))
                body = json_pack("{s:s, s:s}", "tenant_id", pg_text(rows, 0, "tenant_id"), "state",
                                 pg_text(rows, 0, "state"));
        json_object_set_new(body, "backups", json_column(rows, 0, "backups"));
        json_object_set_new(body, "history", json_column(rows, 0, "history"));
        http_answer_json(request, 200, body);
}

void tenant_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_valid(http_segment(request)))
                read_catalog(gateway, request, SQL_TENANT, PARAMS(http_segment(request)), answer_tenant);
        else
                not_found(request, "tenant");
}

static void answer_connection(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        const char *tenant = http_segment(request);
        auto_secret char *password = NULL;
        struct err err;
        json_t *body;

        if (pg_rows_count(rows) == 0) {
                not_found(request, "connection");
                return;
        }
        if (strcmp(pg_text(rows, 0, "state"), "ready") != 0 ||
            strcmp(pg_text(rows, 0, "access_applied"), "full") != 0 || pg_text(rows, 0, "sealed") == NULL) {
                http_answer_problem(request, 409, "not_available", NULL,
                                    "the tenant's database may not be used now; see its state and access");
                return;
        }
        if (keyring_open(gateway->app_keys, tenant, "app_password", (int)pg_int(rows, 0, "rotation_applied"),
                         pg_text(rows, 0, "sealed"), &password, &err) < 0) {
                http_answer_error(request, &err);
                return;
        }
        body = json_pack("{s:s, s:s?, s:I, s:s?, s:s?, s:s, s:I}", "tenant_id", tenant, "host",
                         pg_text(rows, 0, "host"), "port", (json_int_t)pg_int(rows, 0, "port"), "database",
                         pg_text(rows, 0, "dbname"), "user", pg_text(rows, 0, "app_login"), "password", password,
                         "credential_version", (json_int_t)pg_int(rows, 0, "rotation_applied"));
        http_answer_json(request, 200, body);
}

void connection_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_valid(http_segment(request)))
                read_catalog(gateway, request, SQL_CONNECTION, PARAMS(http_segment(request)), answer_connection);
        else
                not_found(request, "tenant");
}

static void answer_operation(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 1)
                http_answer_json(request, 200, json_column(rows, 0, "operation"));
        else if (operation_id_is_ours(http_segment(request))) /* in Kafka, on its way */
                http_answer_json(request, 200,
                                 json_pack("{s:s, s:n, s:n, s:s, s:n, s:n, s:n, s:{}, s:n, s:n}", "operation_id",
                                           http_segment(request), "tenant_id", "kind", "state", "accepted", "code",
                                           "field", "detail", "result", "created_at", "finished_at"));
        else
                not_found(request, "operation");
}

void operation_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_valid(http_segment(request)))
                read_catalog(gateway, request, SQL_OPERATION, PARAMS(http_segment(request)), answer_operation);
        else
                not_found(request, "operation");
}

static void answer_list(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        http_answer_json(request, 200, json_pack("{s:o}", "items", json_column(rows, 0, "list")));
}

/* Behind this item the next page begins: [in order, driver, server, name] in base64url. */
static json_t *inventory_cursor(const json_t *item)
{
        auto_json *place = json_pack("[b, s, s, s]", strcmp(json_text(item, "verdict"), "ours") == 0,
                                     json_text(item, "driver"), json_text(item, "server"), json_text(item, "name"));
        auto_free char *text = json_print(place);
        auto_free char *cursor = crypto_base64url(text, strlen(text));

        return json_string(cursor);
}

static bool parse_inventory_cursor(const char *cursor, json_t **ret_place)
{
        auto_free unsigned char *plain = mem_alloc(strlen(cursor) + 1, 1);
        auto_json *place = NULL;
        int length = strlen(cursor) > 1000 ? -1 : crypto_base64_decode(cursor, plain);

        if (length < 0 || json_parse((char *)plain, (size_t)length, &place, NULL) < 0 || json_array_size(place) != 4 ||
            !json_is_boolean(json_array_get(place, 0)))
                return false;
        for (size_t i = 1; i < 4; i++)
                if (!json_is_string(json_array_get(place, i)))
                        return false;
        *ret_place = TAKE_PTR(place);
        return true;
}

static void answer_inventory(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        const char *limit = http_query(request, "limit");
        json_t *list = json_column(rows, 0, "list");
        size_t count = json_array_size(list);
        bool full = count == (size_t)(limit ? atoi(limit) : PAGE_LIMIT);

        (void)gateway;
        http_answer_json(request, 200,
                         json_pack("{s:o, s:o, s:o}", "items", list, "archive", json_column(rows, 0, "archive"),
                                   "next_cursor",
                                   full ? inventory_cursor(json_array_get(list, count - 1)) : json_null()));
}

void inventory_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *cursor = http_query(request, "cursor"), *columns[4] = { NULL };
        auto_json *place = NULL;
        char limit[16];

        (void)caller;
        if (cursor != NULL && !parse_inventory_cursor(cursor, &place)) {
                refuse_cursor(request);
                return;
        }
        if (!read_limit(request, PAGE_LIMIT, limit))
                return;
        if (place != NULL)
                columns[0] = json_is_true(json_array_get(place, 0)) ? "true" : "false";
        for (size_t i = 1; place != NULL && i < 4; i++)
                columns[i] = json_string_value(json_array_get(place, i));
        read_catalog(gateway, request, SQL_INVENTORY, PARAMS(columns[0], columns[1], columns[2], columns[3], limit),
                     answer_inventory);
}

void alerts_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *all = http_query(request, "all");

        (void)caller;
        read_catalog(gateway, request, SQL_ALERTS, PARAMS(all ? "true" : "false"), answer_list);
}
