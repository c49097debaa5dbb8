/* Reads about tenants, operations and the fleet from the catalog. */
#include "common/base/id.h"
#include "common/base/memory.h"
#include "common/contracts/operation_id.h"
#include "services/gateway/paging.h"

#include <string.h>

static const char SQL_TENANT[] =
        "select t.tenant_id, t.state, t.snapshot, "
        "(select coalesce(jsonb_agg(to_jsonb(h) - 'tenant_id' order by h.seq desc), '[]') from "
        "(select * from gateway.history where tenant_id = t.tenant_id order by seq desc limit 100) h) as history, "
        "(select coalesce(jsonb_agg(to_jsonb(b) - 'tenant_id' order by b.created_at desc), '[]') from "
        "(select * from gateway.backup where tenant_id = t.tenant_id order by created_at desc limit 20) b) as backups "
        "from gateway.tenant t where t.tenant_id = $1::uuid";

static const char SQL_CONNECTION[] = "select * from gateway.connection where tenant_id = $1::uuid";

static const char SQL_OPERATION[] =
        "select to_jsonb(o) - 'body_hash' || jsonb_build_object('slug', t.slug) as operation "
        "from gateway.operation o left join gateway.tenant_row t using (tenant_id) "
        "where o.operation_id = $1::uuid";

/* Items with a problem come first. */
static const char SQL_INVENTORY[] =
        "with page as materialized ("
        "select * from gateway.inventory "
        "where ($1::jsonb is null or (verdict = 'ours', driver, server, name) > "
        "(($1::jsonb ->> 0)::boolean, $1::jsonb ->> 1, $1::jsonb ->> 2, $1::jsonb ->> 3)) "
        "order by verdict = 'ours', driver, server, name "
        "limit $2::int) "
        "select (select coalesce(jsonb_agg(to_jsonb(p) order by p.verdict = 'ours', p.driver, p.server, p.name), '[]') "
        "from page p) as list, "
        "(select archive from gateway.archive) as archive";

static void reads_not_found(struct http_request *request, const char *what)
{
        auto_free char *detail = mem_printf("there is no such %s", what);

        http_answer_problem(request, 404, "not_found", NULL, detail);
}

static void reads_answer_tenant(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        json_t *body;

        (void)gateway;
        if (pg_rows_count(rows) == 0) {
                reads_not_found(request, "tenant");
                return;
        }
        body = pg_json(rows, 0, "snapshot");
        if (json_is_null(body))
                body = json_pack("{s:s, s:s}", "tenant_id", pg_text(rows, 0, "tenant_id"), "state",
                                 pg_text(rows, 0, "state"));
        json_object_set_new(body, "backups", pg_json(rows, 0, "backups"));
        json_object_set_new(body, "history", pg_json(rows, 0, "history"));
        http_answer_json(request, 200, body);
}

void tenant_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_valid(http_segment(request)))
                read_catalog(gateway, request, SQL_TENANT, PARAMS(http_segment(request)), reads_answer_tenant);
        else
                reads_not_found(request, "tenant");
}

static void reads_answer_connection(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        const char *tenant = http_segment(request);
        auto_secret char *password = NULL;
        struct err err;
        json_t *body;

        if (pg_rows_count(rows) == 0) {
                reads_not_found(request, "connection");
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
                read_catalog(gateway, request, SQL_CONNECTION, PARAMS(http_segment(request)), reads_answer_connection);
        else
                reads_not_found(request, "tenant");
}

static void reads_answer_operation(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 1)
                http_answer_json(request, 200, pg_json(rows, 0, "operation"));
        else if (operation_id_is_ours(http_segment(request))) /* in Kafka, on its way */
                http_answer_json(request, 200,
                                 json_pack("{s:s, s:n, s:n, s:s, s:n, s:n, s:n, s:{}, s:n, s:n}", "operation_id",
                                           http_segment(request), "tenant_id", "kind", "state", "accepted", "code",
                                           "field", "detail", "result", "created_at", "finished_at"));
        else
                reads_not_found(request, "operation");
}

void operation_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (id_is_valid(http_segment(request)))
                read_catalog(gateway, request, SQL_OPERATION, PARAMS(http_segment(request)), reads_answer_operation);
        else
                reads_not_found(request, "operation");
}

/* The next page begins after it: [in order, driver, server, name]. */
static json_t *reads_inventory_cursor(const json_t *item)
{
        auto_json *place = json_pack("[b, s, s, s]", strcmp(json_text(item, "verdict"), "ours") == 0,
                                     json_text(item, "driver"), json_text(item, "server"), json_text(item, "name"));
        auto_free char *text = json_print(place);

        return page_cursor(text, NULL);
}

static bool reads_is_inventory_place(const char *text)
{
        auto_json *place = NULL;

        if (json_parse(text, strlen(text), &place, NULL) < 0 || json_array_size(place) != 4 ||
            !json_is_boolean(json_array_get(place, 0)))
                return false;
        for (size_t i = 1; i < 4; i++)
                if (!json_is_string(json_array_get(place, i)))
                        return false;
        return true;
}

static void reads_answer_inventory(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        json_t *list = pg_json(rows, 0, "list");
        size_t count = json_array_size(list);
        bool full = page_is_full(request, (int64_t)count, PAGE_LIMIT);

        (void)gateway;
        http_answer_json(request, 200,
                         json_pack("{s:o, s:o, s:o}", "items", list, "archive", pg_json(rows, 0, "archive"),
                                   "next_cursor",
                                   full ? reads_inventory_cursor(json_array_get(list, count - 1)) : json_null()));
}

void inventory_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct page page;

        (void)caller;
        if (!page_read(request, PAGE_LIMIT, reads_is_inventory_place, &page))
                return;
        read_catalog(gateway, request, SQL_INVENTORY, PARAMS(page.place, page.limit_text), reads_answer_inventory);
        page_release(&page);
}
