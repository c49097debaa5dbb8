/* `tenantry drift`: tenants whose databases are not what the catalog, or the other tenants, say. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/migrate_options.h"
#include "cli/pages.h"
#include "cli/text.h"
#include "cli/wait.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define DRIFT      "/api/admin/migrations/drift"
#define NAMES_MOST 5

/* "WORD a, b and 7 more; ", nothing for an empty list. */
static void drift_add_names(struct buf *text, const char *word, const json_t *names)
{
        size_t count = json_array_size(names);

        for (size_t i = 0; i < count && i < NAMES_MOST; i++)
                buf_printf(text, "%s%s", i == 0 ? word : ", ", json_string_value(json_array_get(names, i)) ?: "?");
        if (count > NAMES_MOST)
                buf_printf(text, " and %zu more", count - NAMES_MOST);
        if (count > 0)
                buf_add_text(text, "; ");
}

static void drift_describe_ledger(struct buf *text, const json_t *finding)
{
        drift_add_names(text, "its ledger lacks ", json_object_get(finding, "missing"));
        drift_add_names(text, "its ledger has besides ", json_object_get(finding, "extra"));
}

static void drift_describe_version(struct buf *text, const json_t *finding)
{
        drift_add_names(text, "no file has the version ", json_object_get(finding, "versions"));
}

static void drift_describe_index(struct buf *text, const json_t *finding)
{
        drift_add_names(text, "invalid index ", json_object_get(finding, "indexes"));
}

static void drift_describe_schema(struct buf *text, const json_t *finding)
{
        buf_printf(text, "not like %lld of %lld with the same files: ", (long long)json_number(finding, "alike", 0),
                   (long long)json_number(finding, "of", 0));
        drift_add_names(text, "missing ", json_object_get(finding, "missing"));
        drift_add_names(text, "extra ", json_object_get(finding, "extra"));
        drift_add_names(text, "changed ", json_object_get(finding, "changed"));
}

static void drift_describe_error(struct buf *text, const json_t *finding)
{
        buf_printf(text, "cannot be looked into: %s; ", json_text(json_object_get(finding, "error"), "detail") ?: "?");
}

static void drift_describe_busy(struct buf *text, const json_t *finding)
{
        buf_printf(text, "not looked into, since %s had it all the time; ", json_text(finding, "activity") ?: "?");
}

static const struct {
        const char *kind;
        void (*describe)(struct buf *text, const json_t *finding);
} FINDINGS[] = {
        { "ledger", drift_describe_ledger },       { "unknown_version", drift_describe_version },
        { "invalid_index", drift_describe_index }, { "schema", drift_describe_schema },
        { "unreachable", drift_describe_error },   { "busy", drift_describe_busy },
};

static char *drift_findings_cell(const json_t *row)
{
        auto_buf text = { 0 };
        json_t *finding;
        size_t i;

        json_array_foreach (json_object_get(row, "findings"), i, finding)
                for (size_t k = 0; k < ARRAY_SIZE(FINDINGS); k++)
                        if (strcmp(json_text(finding, "kind") ?: "", FINDINGS[k].kind) == 0)
                                FINDINGS[k].describe(&text, finding);
        if (text.length >= 2)
                text.data[text.length - 2] = '\0'; /* the last "; " */
        return text_detail(text.data ?: "");
}

static const struct column COLUMNS[] = {
        { .heading = "SUBDOMAIN", .member = "slug" },
        { .heading = "FINDINGS", .member = "findings", .cell = drift_findings_cell },
        { .heading = "TENANT", .member = "tenant_id", .wide = true },
        { .heading = NULL },
};

static const struct listing DRIFTED = { .items = "tenants",
                                        .none = "no tenant has drifted",
                                        .names = { "slug", "tenant_id" },
                                        .id = "tenant_id",
                                        .columns = COLUMNS };

static int drift_begin(int argc, char **argv, json_t **ret)
{
        auto_json *body = json_object(), *answer = NULL;
        const char *labels = cli_option(&argc, argv, "labels"), *tenants = cli_option(&argc, argv, "tenants");
        int status;

        if (cli_flag(&argc, argv, "schema"))
                json_object_set_new(body, "schema", json_true());
        status = migrate_add_list(body, "labels", labels, false);
        if (status == EXIT_GOOD)
                status = migrate_add_list(body, "tenants", tenants, true);
        if (status == EXIT_GOOD)
                status = cli_expect(argc, argv, 0);
        return status == EXIT_GOOD ? wait_request(DRIFT, body, 12 * WAIT_DEFAULT_MS, &answer, ret) : status;
}

/* Shows what the last check found. */
static int drift_show(void)
{
        auto_json *check = NULL, *found = NULL, *both = NULL;
        int status = api_get(DRIFT, &check);

        if (status == EXIT_GOOD)
                status = pages_fetch(
                        &(struct pages){ .path = DRIFT "/tenants", .items = DRIFTED.items, .limit = PAGES_ALL },
                        &found);
        if (status != EXIT_GOOD)
                return status;
        if (json_number(check, "waiting", 0) > 0)
                status = cli_fail(EXIT_TIMEOUT, "the check goes on: %lld tenants have not been looked into",
                                  (long long)json_number(check, "waiting", 0));
        else if (json_number(check, "drifted", 0) > 0)
                status = cli_fail(EXIT_FAILED, "%lld of %lld tenants have drifted",
                                  (long long)json_number(check, "drifted", 0),
                                  (long long)json_number(check, "tenants", 0));
        both = json_pack("{s:O, s:O}", "check", check, DRIFTED.items, json_object_get(found, DRIFTED.items));
        if (cli_json)
                cli_print_answer(both);
        else
                listing_show(&DRIFTED, found);
        return status;
}

int run_drift(int argc, char **argv)
{
        auto_json *operation = NULL;
        bool last = cli_flag(&argc, argv, "last");
        int status = last ? cli_expect(argc, argv, 0) : drift_begin(argc, argv, &operation);

        return status == EXIT_GOOD ? drift_show() : status;
}
