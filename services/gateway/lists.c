/* The lists of tenants and operations, a page at a time. An index determines the rows of a page; only those are built.
 */
#include "common/base/buf.h"
#include "common/base/memory.h"
#include "services/gateway/paging.h"

#include <stdio.h>
#include <string.h>

#define TENANTS_PAGE    50
#define OPERATIONS_PAGE 50
#define SEARCH_LEAST    3 /* characters: the index cannot find fewer */
#define SEARCH_LIMIT    100
#define SUBDOMAIN_LIMIT 40
#define LABEL_LIMIT     40

/* In one of the orders below: %1$s is the column, %2$s its type, %3$s the comparison with a place, %4$s the
 * direction. */
static const char SQL_TENANTS[] =
        "with page as materialized ("
        "select tenant_id, %1$s as place from gateway.tenant_row "
        "where ($1::text is null or state = $1) "
        "and ($2::text is null or slug = $2) "
        "and ($3::text is null or plan = $3) "
        "and ($4::%2$s is null or (%1$s, tenant_id) %3$s ($4::%2$s, $5::uuid)) "
        "and ($7::uuid is null or tenant_id between $7::uuid and $8::uuid) "
        "and ($9::text is null or slug collate \"C\" between $9 and $9 || '~') "
        "and ($10::text is null or slug ilike $10 or company ilike $10) "
        "and ($11::text is null or (labels @> array[$11] and labels <> '{}')) "
        "and state <> 'deprovisioned' "
        "order by place %4$s, tenant_id %4$s "
        "limit $6::int) "
        "select p.tenant_id as id, %5$s as place, t.snapshot as item "
        "from page p cross join lateral (select snapshot from gateway.tenant where tenant_id = p.tenant_id) t "
        "order by p.place %4$s, p.tenant_id %4$s";

static const char SQL_OPERATIONS[] =
        "with page as materialized ("
        "select operation_id, created_at from gateway.operation_row "
        "where ($1::uuid is null or tenant_id = $1::uuid) "
        "and ($2::text is null or state = $2) "
        "and ($3::timestamptz is null or (created_at, operation_id) < ($3::timestamptz, $4::uuid)) "
        "and ($6::uuid is null or operation_id between $6::uuid and $7::uuid) "
        "order by created_at desc, operation_id desc "
        "limit $5::int) "
        "select p.operation_id as id, to_char(p.created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US\"Z\"') as "
        "place, "
        "to_jsonb(o) - 'body_hash' || jsonb_build_object('slug', t.slug) as item "
        "from page p "
        "cross join lateral (select * from gateway.operation where operation_id = p.operation_id) o "
        "left join lateral (select slug from gateway.tenant_row where tenant_id = o.tenant_id) t on true "
        "order by p.created_at desc, p.operation_id desc";

#define TIME_SHOWN "to_char(p.place at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US\"Z\"')"

static bool lists_is_subdomain(const char *text)
{
        return strlen(text) <= SUBDOMAIN_LIMIT && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(text);
}

struct column_order {
        const char *name, *column, *type, *shown;
        bool (*is_place)(const char *text);
};

static const struct column_order ORDERS[] = {
        { .name = "created_at",
          .column = "created_at",
          .type = "timestamptz",
          .shown = TIME_SHOWN,
          .is_place = page_is_time },
        { .name = "since",
          .column = "state_since",
          .type = "timestamptz",
          .shown = TIME_SHOWN,
          .is_place = page_is_time },
        { .name = "subdomain",
          .column = "slug collate \"C\"",
          .type = "text",
          .shown = "p.place",
          .is_place = lists_is_subdomain },
};

/* The sort parameter was checked against the list in routes.c. */
static const struct column_order *lists_order_of(const char *sort, bool *ret_falls)
{
        *ret_falls = sort != NULL && *sort == '-';
        for (size_t i = 0; sort != NULL && i < ARRAY_SIZE(ORDERS); i++)
                if (strcmp(ORDERS[i].name, sort + *ret_falls) == 0)
                        return &ORDERS[i];
        return &ORDERS[0];
}

static bool lists_check_subdomain(struct http_request *request, const char *name)
{
        const char *text = http_query(request, name);

        if (text == NULL || lists_is_subdomain(text))
                return true;
        http_answer_problem(request, 400, "invalid_field", name,
                            "a subdomain has a-z, 0-9 and hyphens, at most 40 of them");
        return false;
}

static bool lists_check_label(struct http_request *request)
{
        const char *text = http_query(request, "label");

        if (text == NULL || (*text != '\0' && strlen(text) <= LABEL_LIMIT &&
                             strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == strlen(text)))
                return true;
        http_answer_problem(request, 400, "invalid_field", "label",
                            "a label is 1 to 40 of a-z, 0-9, hyphen, underscore and dot");
        return false;
}

static size_t lists_count_characters(const char *text)
{
        size_t count = 0;

        for (; *text; text++)
                count += ((unsigned char)*text & 0xc0) != 0x80;
        return count;
}

/* The search text, as a pattern that matches it literally; NULL if there is none. False: answered with 400. */
static bool lists_read_search(struct http_request *request, char **ret)
{
        const char *text = http_query(request, "search");
        auto_buf pattern = { 0 };

        if (text == NULL)
                return true;
        if (lists_count_characters(text) < SEARCH_LEAST || lists_count_characters(text) > SEARCH_LIMIT) {
                http_answer_problem(request, 400, "invalid_field", "search", "search must be 3 to 100 characters");
                return false;
        }
        buf_add_text(&pattern, "%");
        for (const char *p = text; *p; p++) {
                if (strchr("%_\\", *p) != NULL)
                        buf_add_text(&pattern, "\\");
                buf_add(&pattern, p, 1);
        }
        buf_add_text(&pattern, "%");
        *ret = mem_copy_text(pattern.data);
        return true;
}

static void lists_answer_tenants(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "tenants", rows, TENANTS_PAGE);
}

void tenants_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        auto_free char *search = NULL, *sql = NULL;
        const struct column_order *order;
        struct id first, last;
        struct page page;
        bool falls;

        (void)caller;
        order = lists_order_of(http_query(request, "sort"), &falls);
        if (!lists_check_subdomain(request, "begins") || !lists_check_label(request) ||
            !lists_read_search(request, &search) || !page_read_span(request, &first, &last) ||
            !page_read(request, TENANTS_PAGE, order->is_place, &page))
                return;
        sql = mem_printf(SQL_TENANTS, order->column, order->type, falls ? "<" : ">", falls ? "desc" : "asc",
                         order->shown);
        read_catalog(gateway, request, sql,
                     PARAMS(http_query(request, "state"), http_query(request, "subdomain"), http_query(request, "plan"),
                            page.place, page.id, page.limit_text, page_text_or_null(first.text),
                            page_text_or_null(last.text), http_query(request, "begins"), search,
                            http_query(request, "label")),
                     lists_answer_tenants);
        page_release(&page);
}

static void lists_answer_operations(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "operations", rows, OPERATIONS_PAGE);
}

void operations_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *tenant = http_query(request, "tenant_id");
        struct id first, last;
        struct page page;

        (void)caller;
        if (tenant != NULL && !id_is_valid(tenant)) {
                http_answer_problem(request, 400, "invalid_field", "tenant_id", "tenant_id must be a tenant's id");
                return;
        }
        if (!page_read_span(request, &first, &last) || !page_read(request, OPERATIONS_PAGE, page_is_time, &page))
                return;
        read_catalog(gateway, request, SQL_OPERATIONS,
                     PARAMS(tenant, http_query(request, "state"), page.place, page.id, page.limit_text,
                            page_text_or_null(first.text), page_text_or_null(last.text)),
                     lists_answer_operations);
        page_release(&page);
}
