/* `tenantry explain`: which event had which effect, and by which rule, from a tenant's history; and what billing says.
 */
#include "cli/api.h"
#include "cli/explain_billing.h"
#include "cli/story.h"
#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Milliseconds since 1970 of "2026-01-31T12:00:03.123Z"; 0 for anything else. */
static int64_t explain_moment_of(const char *text)
{
        struct tm utc = { 0 };
        const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &utc) : NULL;

        if (rest == NULL)
                return 0;
        return (int64_t)timegm(&utc) * 1000 + (*rest == '.' ? strtol(rest + 1, NULL, 10) : 0);
}

static json_t *explain_effect_of(const json_t *history, size_t at)
{
        const json_t *row = json_array_get(history, at);
        const char *type = json_text(row, "type") ?: "";
        const json_t *data = json_object_get(row, "data");
        auto_free char *text = story_row(history, at);

        return json_pack("{s:s?, s:s, s:s, s:s?, s:O?}", "at", json_text(row, "at"), "type", type, "effect", text,
                         "rule", story_rule(type, data), "data", data);
}

static json_t *explain_find_cause(json_t *causes, const char *id)
{
        json_t *cause;
        size_t i;

        json_array_foreach (causes, i, cause) {
                const char *known = json_text(cause, "caused_by");

                if (known == id || (known != NULL && id != NULL && strcmp(known, id) == 0))
                        return cause;
        }
        cause = json_pack("{s:s?, s:[]}", "caused_by", id, "effects");
        json_array_append_new(causes, cause);
        return cause;
}

/* The rows that one event caused; all rows if only is NULL. */
static json_t *explain_rows_of(const json_t *history, const char *only)
{
        json_t *rows = json_array(), *row;
        size_t i;

        json_array_foreach (history, i, row)
                if (only == NULL || strcmp(json_text(row, "caused_by") ?: "", only) == 0)
                        json_array_append(rows, row);
        return rows;
}

/* Rows come newest first; causes are in the order in which they first had an effect. */
static json_t *explain_group_by_cause(const json_t *history)
{
        json_t *causes = json_array();

        for (size_t i = json_array_size(history); i > 0; i--) {
                json_t *cause = explain_find_cause(causes, json_text(json_array_get(history, i - 1), "caused_by"));

                json_array_append_new(json_object_get(cause, "effects"), explain_effect_of(history, i - 1));
        }
        return causes;
}

/* How the operation of a cause ended, if it is one. */
static void explain_add_operation(json_t *cause)
{
        const char *id = json_text(cause, "caused_by");
        auto_free char *path = id != NULL && id_is_valid(id) ? mem_printf("/api/operations/%s", id) : NULL;
        struct api_answer answer;

        if (path == NULL)
                return;
        if (api_send(&(struct api_request){ .method = "GET", .path = path }, &answer) == EXIT_GOOD)
                json_object_set(cause, "operation", answer.body);
        api_answer_release(&answer);
}

/* rows: what else is shown, so that a long detail is not repeated. */
static void explain_tell_operation(const json_t *operation, const json_t *rows)
{
        const char *code = json_text(operation, "code"), *detail = json_text(operation, "detail");
        bool again = story_tells(rows, json_array_size(rows), code, detail);
        auto_free char *why = again ? text_safe(code) : text_refusal(json_text(operation, "field"), detail);
        auto_free char *kind = text_safe(json_text(operation, "kind")),
                       *state = text_safe(json_text(operation, "state"));

        if (!json_is_object(operation))
                return;
        printf("  => operation %s%s%s%s%s\n", kind, *kind ? ": " : "", state, *why ? ": " : "", why);
}

static void explain_tell_effect(const json_t *effect, int64_t began)
{
        const char *at = json_text(effect, "at"), *rule = json_text(effect, "rule");
        auto_free char *safe = text_safe(at);

        printf("  %.12s  +%7.3f s  %s\n", strlen(safe) > 23 ? safe + 11 : safe,
               (double)(explain_moment_of(at) - began) / 1000, json_text(effect, "effect"));
        if (rule != NULL)
                printf("%*sbecause %s\n", 30, "", rule);
}

static void explain_tell_cause(const json_t *cause, const json_t *rows)
{
        const json_t *effects = json_object_get(cause, "effects"), *first = json_array_get(effects, 0), *effect;
        const char *source = json_text(json_object_get(first, "data"), "source");
        auto_free char *id = text_safe(json_text(cause, "caused_by")), *from = text_safe(source);
        auto_free char *time = text_time(json_text(first, "at"));
        size_t i;

        printf("%s UTC  event %s%s%s\n", time, *id ? id : "(none: something was due)", *from ? " from " : "", from);
        json_array_foreach (effects, i, effect)
                explain_tell_effect(effect, explain_moment_of(json_text(first, "at")));
        explain_tell_operation(json_object_get(cause, "operation"), rows);
}

static int explain_tell(const json_t *tenant, const char *only)
{
        const json_t *history = json_object_get(tenant, "history");
        auto_json *rows = explain_rows_of(history, only), *causes = explain_group_by_cause(rows), *whole = NULL;
        auto_json *billing = explain_billing_get(json_text(tenant, "tenant_id"));
        json_t *cause;
        size_t i;

        json_array_foreach (causes, i, cause)
                explain_add_operation(cause);
        if (cli_json) {
                whole = json_pack("{s:s?, s:s?, s:s?, s:O?, s:O}", "tenant_id", json_text(tenant, "tenant_id"),
                                  "subdomain", json_text(tenant, "slug"), "state", json_text(tenant, "state"),
                                  "billing", billing, "causes", causes);
                print_json(whole);
                return EXIT_GOOD;
        }
        print_pair("tenant", json_text(tenant, "slug") ? json_text(tenant, "slug") : json_text(tenant, "tenant_id"));
        print_pair("state", json_text(tenant, "state"));
        explain_billing_tell(billing);
        if (json_array_size(history) >= 100)
                puts("(only the last 100 events)");
        json_array_foreach (causes, i, cause) {
                putchar('\n');
                explain_tell_cause(cause, rows);
        }
        return EXIT_GOOD;
}

/* An operation that has no tenant (yet): refused, or on its way. */
static int explain_tell_lone_operation(const json_t *operation)
{
        const char *state = json_text(operation, "state") ?: "";

        if (cli_json) {
                print_json(operation);
                return EXIT_GOOD;
        }
        print_pair("operation", json_text(operation, "operation_id"));
        explain_tell_operation(operation, NULL);
        if (strcmp(state, "accepted") == 0)
                puts("  Kafka has it; no service has processed it yet (see: tenantry doctor)");
        return EXIT_GOOD;
}

static int explain_tenant(const char *tenant_id, const char *only, struct api_answer *answer)
{
        auto_free char *path = mem_printf("/api/tenants/%s", tenant_id);
        int status = api_send(&(struct api_request){ .method = "GET", .path = path }, answer);

        return status == EXIT_GOOD ? explain_tell(answer->body, only) : status;
}

static int explain_operation(const char *operation_id)
{
        auto_free char *path = mem_printf("/api/operations/%s", operation_id);
        auto_json *operation = NULL;
        struct api_answer answer = { 0 };
        const char *tenant_id;
        int status;

        if (api_send(&(struct api_request){ .method = "GET", .path = path }, &answer) != EXIT_GOOD) {
                api_answer_release(&answer);
                return cli_fail(EXIT_NOT_FOUND, "there is neither a tenant nor an operation %s", operation_id);
        }
        operation = TAKE_PTR(answer.body);
        tenant_id = json_text(operation, "tenant_id");
        if (tenant_id == NULL || strcmp(json_text(operation, "state") ?: "", "rejected") == 0)
                return explain_tell_lone_operation(operation);
        status = explain_tenant(tenant_id, operation_id, &answer);
        if (status == EXIT_NOT_FOUND) /* parked: its tenant has not signed up yet */
                status = explain_tell_lone_operation(operation);
        else if (status != EXIT_GOOD)
                api_complain(&answer, status);
        api_answer_release(&answer);
        return status;
}

int run_explain(int argc, char **argv)
{
        int status = cli_expect(argc, argv, 1);
        struct api_answer answer = { 0 };
        struct id id;

        if (status == EXIT_GOOD)
                status = api_find_tenant_or_operation(argv[1], &id);
        if (status != EXIT_GOOD)
                return status;
        status = explain_tenant(id.text, NULL, &answer);
        if (status == EXIT_NOT_FOUND)
                status = explain_operation(id.text);
        else if (status != EXIT_GOOD)
                api_complain(&answer, status);
        api_answer_release(&answer);
        return status;
}
