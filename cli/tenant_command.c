/* `tenantry suspend`, `resume`, `archive`, `deprovision`, `retry`, `rotate`, `backup` and `resend-invite`: one command
 * each, sent to one tenant. */
#include "cli/tenant_command.h"

#include "cli/api.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

/* must: confirmation is required, unless the tenant is archived and has nothing to replace. */
static int command_check_confirmed(const json_t *tenant, const char *confirm, bool must)
{
        const char *slug = json_text(tenant, "slug");
        auto_free char *shown = text_safe(slug), *given = text_safe(confirm);
        const char *state = json_text(tenant, "state");

        must = must && state != NULL && strcmp(state, "archived") != 0;
        if (slug == NULL || (confirm != NULL && strcmp(confirm, slug) == 0) || (confirm == NULL && !must))
                return EXIT_GOOD;
        if (confirm == NULL)
                return cli_fail(
                        EXIT_USAGE,
                        "what the tenant has now would be replaced: repeat its subdomain, %s, with --confirm; or "
                        "restore --beside it",
                        shown);
        return cli_fail(EXIT_REFUSED, "--confirm must be the tenant's subdomain, %s, but is %s: nothing was done",
                        shown, *given ? given : "empty");
}

/* A command for an unknown id would wait for ever for its signup, and an unconfirmed deletion would be refused when
 * nobody is looking any more: report both now. While the catalog is down we cannot know, and the gateway takes commands
 * anyway. */
static int command_check_tenant(const char *tenant_id, const char *confirm, bool must)
{
        auto_free char *path = mem_printf("/api/tenants/%s", tenant_id);
        struct api_answer answer;
        int code = api_send(&(struct api_request){ .method = "GET", .path = path }, &answer);

        if (answer.status == 503)
                code = EXIT_GOOD;
        if (code == EXIT_NOT_FOUND)
                cli_fail(code, "there is no tenant %s (see: tenantry tenants)", tenant_id);
        else if (code != EXIT_GOOD)
                api_complain(&answer, code);
        else
                code = command_check_confirmed(answer.status == 200 ? answer.body : NULL, confirm, must);
        api_answer_release(&answer);
        return code;
}

static int command_send(const char *name, const char *tenant_id, const json_t *body, json_t **ret)
{
        const char *route = strcmp(name, "rotate") == 0  ? "rotate-credentials"
                            : strcmp(name, "label") == 0 ? "labels"
                                                         : name;
        auto_free char *path = mem_printf("/api/tenants/%s/%s", tenant_id, route);

        return api_post(path, body, NULL, ret);
}

/* Where the restored database is. */
static void command_tell_restored(const json_t *operation)
{
        const json_t *restored = json_object_get(json_object_get(operation, "result"), "restored");
        const char *database = json_text(restored, "database"), *host = json_text(restored, "host");
        auto_free char *port = mem_printf("%lld", (long long)json_number(restored, "port", 0));
        auto_free char *tables = mem_printf("%lld", (long long)json_number(restored, "tables", 0));

        if (restored == NULL)
                return;
        print_pair("backup", json_text(restored, "backup"));
        print_pair("tables", tables);
        print_pair("schema", json_text(restored, "schema_version"));
        if (database == NULL)
                return;
        print_pair("host", host);
        print_pair("port", port);
        print_pair("database", database);
}

static int command_carry_out(const char *name, const char *tenant_id, const json_t *body, int64_t wait_ms)
{
        const char *mode = json_text(body, "mode");
        bool replaces = mode != NULL && strcmp(mode, "in_place") == 0;
        auto_json *answer = NULL, *operation = NULL;
        int status = command_check_tenant(tenant_id, json_text(body, "confirm"), replaces);
        const char *id;

        if (status == EXIT_GOOD)
                status = command_send(name, tenant_id, body, &answer);
        if (status != EXIT_GOOD)
                return status;
        id = json_text(answer, "operation_id");
        if (!cli_json) {
                print_pair("tenant", tenant_id);
                print_pair("operation", id);
                fflush(stdout);
        }
        if (wait_ms > 0 && id != NULL)
                status = wait_operation(id, tenant_id, wait_ms, &operation);
        if (operation != NULL)
                json_object_set(answer, "operation", operation);
        if (cli_json) {
                cli_print_answer(answer);
                return status;
        }
        print_pair("state", operation ? json_text(operation, "state") : "accepted");
        command_tell_restored(operation);
        if (wait_ms == 0)
                wait_hint(id);
        return status;
}

int tenant_command_send(const char *name, const char *tenant, const json_t *body, int64_t wait_ms)
{
        struct id id;
        int status = api_find_tenant(tenant, &id);

        return status == EXIT_GOOD ? command_carry_out(name, id.text, body, wait_ms) : status;
}

int tenant_command_add(json_t *body, const char *field, const char *value)
{
        if (value != NULL && json_object_set_new(body, field, json_string(value)) < 0)
                return cli_fail(EXIT_USAGE, "an option's value is not valid UTF-8");
        return EXIT_GOOD;
}

int run_tenant_command(int argc, char **argv)
{
        const char *reason = cli_option(&argc, argv, "reason"), *confirm = NULL;
        bool deletes = strcmp(argv[0], "deprovision") == 0;
        auto_json *body = json_object();
        int64_t wait_ms;

        if (deletes)
                confirm = cli_option(&argc, argv, "confirm");
        if (wait_option(&argc, argv, &wait_ms) != EXIT_GOOD || cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        if (deletes && confirm == NULL)
                return cli_usage(argv[0],
                                 "deletion is protected: repeat the tenant's subdomain with --confirm SUBDOMAIN");
        if (tenant_command_add(body, "reason", reason) != EXIT_GOOD ||
            tenant_command_add(body, "confirm", confirm) != EXIT_GOOD)
                return EXIT_USAGE;
        return tenant_command_send(argv[0], argv[1], body, wait_ms);
}
