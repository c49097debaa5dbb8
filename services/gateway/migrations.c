/* /api/admin/migrations: files are registered, runs are begun, commanded and watched. */
#include "services/gateway/migrations.h"
#include "common/base/id.h"
#include "common/base/memory.h"
#include "common/contracts/migration.h"
#include "services/gateway/ingest.h"
#include "services/gateway/paging.h"

#include <string.h>

#define TENANTS_PAGE 100
#define VERSION_MOST 50

static const char SQL_STATUS[] =
        "select (select item from gateway.migration_run where state not in "
        "('queued', 'completed', 'rolled_back', 'cancelled')) as active, "
        "(select coalesce(jsonb_agg(item order by number), '[]') from (select * from gateway.migration_run "
        "where state = 'queued' order by number limit 20) q) as queued, "
        "(select coalesce(jsonb_agg(item order by number desc), '[]') from (select * from gateway.migration_run "
        "where state in ('completed', 'rolled_back', 'cancelled') order by number desc limit 10) e) as ended, "
        "(select count(*) from gateway.migration_file) as files, "
        "(select version from gateway.migration_file where (item ->> 'rolled_out')::boolean "
        "order by name collate \"C\" desc limit 1) as rolled_out";

static const char SQL_RUN[] = "select item from gateway.migration_run where run_id = $1::uuid";

/* By the number: "order by place" alone would mean the column of the result, which is text. */
static const char SQL_TENANTS[] =
        "select item, place::text as place, tenant_id as id from gateway.migration_job j "
        "where run_id = $1::uuid and ($2::text is null or state = $2) "
        "and ($3::text is null or code = $3) and ($4::bigint is null or j.place > $4::bigint) "
        "order by j.place limit $5::int";

static const char SQL_FILES[] = "select item, name as place, null as id from gateway.migration_file "
                                "where ($1::text is null or name collate \"C\" > $1) "
                                "order by name collate \"C\" limit $2::int";

static const char SQL_FILE[] = "select item || jsonb_build_object('sql', sql, 'verify', verify) as item "
                               "from gateway.migration_file where version = $1";

static const char SQL_DRIFT_CHECK[] = "select item from gateway.drift_check";

static const char SQL_DRIFTED[] = "select item, tenant_id::text as place, tenant_id as id from gateway.drift "
                                  "where ($1::uuid is null or tenant_id > $1::uuid) order by tenant_id limit $2::int";

void migration_file_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const struct endpoint *endpoint = http_route_extra(request);
        auto_free char *type = mem_printf("migration.%s.requested.v1", endpoint->command);
        struct ingest_wish wish = {
                .caller = caller, .route = endpoint->command, .subject = &INGEST_FILE, .type = type
        };
        auto_json *body = ingest_body(request, NULL);

        if (body != NULL && json_text(body, "name") == NULL) /* the message key, without which nothing is checked */
                http_answer_problem(request, 400, "invalid_field", "name", "name must be the file's name");
        else if (body != NULL)
                ingest(gateway, request, &wish, TAKE_PTR(body));
}

static void migrations_ingest(struct gateway *gateway, struct http_request *request, struct ingest_wish wish)
{
        json_t *body = ingest_body(request, wish.subject->field);

        if (body != NULL)
                ingest(gateway, request, &wish, body);
}

void migration_drift_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        migrations_ingest(gateway, request,
                          (struct ingest_wish){ .caller = caller,
                                                .route = "drift",
                                                .subject = &INGEST_CHECK,
                                                .type = "migration.drift.requested.v1" });
}

void migration_run_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        migrations_ingest(gateway, request,
                          (struct ingest_wish){ .caller = caller,
                                                .route = "migrate",
                                                .subject = &INGEST_RUN,
                                                .type = "migration.run.requested.v1" });
}

static bool migrations_names_a_run(struct http_request *request, const char *run)
{
        if (id_is_valid(run))
                return true;
        http_answer_problem(request, 404, "not_found", NULL, "there is no such run");
        return false;
}

void migration_command_send(struct gateway *gateway, struct http_request *request, const char *caller,
                            const char *command, const char *run)
{
        auto_free char *type = mem_printf("migration.%s.requested.v1", command);
        auto_free char *route = mem_printf("%s %s", command, run);
        struct ingest_wish wish = { .caller = caller, .route = route, .subject = &INGEST_RUN, .type = type, .id = run };

        if (migrations_names_a_run(request, run))
                migrations_ingest(gateway, request, wish);
}

void migration_command_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const struct endpoint *endpoint = http_route_extra(request);

        migration_command_send(gateway, request, caller, endpoint->command, http_segment(request));
}

static void migrations_answer_status(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        http_answer_json(request, 200,
                         json_pack("{s:o, s:o, s:o, s:I, s:s?}", "active", pg_json(rows, 0, "active"), "queued",
                                   pg_json(rows, 0, "queued"), "ended", pg_json(rows, 0, "ended"), "files",
                                   (json_int_t)pg_int(rows, 0, "files"), "rolled_out", pg_text(rows, 0, "rolled_out")));
}

void migration_status_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        read_catalog(gateway, request, SQL_STATUS, NO_PARAMS, migrations_answer_status);
}

static void migrations_answer_item(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 1)
                http_answer_json(request, 200, pg_json(rows, 0, "item"));
        else
                http_answer_problem(request, 404, "not_found", NULL, "there is no such run or file");
}

void migration_run_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        if (migrations_names_a_run(request, http_segment(request)))
                read_catalog(gateway, request, SQL_RUN, PARAMS(http_segment(request)), migrations_answer_item);
}

static void migrations_answer_tenants(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "tenants", rows, TENANTS_PAGE);
}

void migration_tenants_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct page page;

        (void)caller;
        if (!migrations_names_a_run(request, http_segment(request)) ||
            !page_read(request, TENANTS_PAGE, page_is_number, &page))
                return;
        read_catalog(gateway, request, SQL_TENANTS,
                     PARAMS(http_segment(request), http_query(request, "state"), http_query(request, "code"),
                            page.place, page.limit_text),
                     migrations_answer_tenants);
        page_release(&page);
}

static void migrations_answer_drift(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 1)
                http_answer_json(request, 200, pg_json(rows, 0, "item"));
        else
                http_answer_problem(request, 404, "not_found", NULL, "no check for drift has been made yet");
}

void migration_drift_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        read_catalog(gateway, request, SQL_DRIFT_CHECK, NO_PARAMS, migrations_answer_drift);
}

void migration_drifted_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct page page;

        (void)caller;
        if (!page_read(request, TENANTS_PAGE, id_is_valid, &page))
                return;
        read_catalog(gateway, request, SQL_DRIFTED, PARAMS(page.place, page.limit_text), migrations_answer_tenants);
        page_release(&page);
}

static bool migrations_is_file_name(const char *text)
{
        return strspn(text, "0123456789") > 0;
}

static void migrations_answer_files(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        page_answer(request, "files", rows, PAGE_LIMIT);
}

void migration_files_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct page page;

        (void)caller;
        if (!page_read(request, PAGE_LIMIT, migrations_is_file_name, &page))
                return;
        read_catalog(gateway, request, SQL_FILES, PARAMS(page.place, page.limit_text), migrations_answer_files);
        page_release(&page);
}

void migration_file_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *version = http_segment(request);

        (void)caller;
        if (strlen(version) <= VERSION_MOST && strspn(version, "0123456789") == strlen(version))
                read_catalog(gateway, request, SQL_FILE, PARAMS(version), migrations_answer_item);
        else
                http_answer_problem(request, 404, "not_found", NULL, "there is no such file");
}
