/* `tenantry suspend`, `resume`, `archive`, `deprovision`, `retry`, `rotate`, `backup` and `resend-invite`: one command
 * each, sent to one tenant. */
#include "cli/api.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

static int check_confirmed(const json_t *tenant, const char *confirm)
{
        const char *slug = json_text(tenant, "slug");
        auto_free char *shown = text_safe(slug), *given = text_safe(confirm);

        if (confirm == NULL || slug == NULL || strcmp(confirm, slug) == 0)
                return EXIT_GOOD;
        return cli_fail(EXIT_REFUSED, "--confirm must be the tenant's subdomain, %s, and is %s: nothing is deleted",
                        shown, *given ? given : "empty");
}

/* An id that nobody knows would wait for ever for its signup, and a deletion that is not confirmed would be refused
 * when nobody looks any more: say so now. With the catalog away we cannot know, and the gateway takes commands all the
 * same. */
static int check_tenant(const char *tenant_id, const char *confirm)
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
                code = check_confirmed(answer.status == 200 ? answer.body : NULL, confirm);
        api_answer_release(&answer);
        return code;
}

static int send_command(const char *name, const char *tenant_id, const json_t *body, json_t **ret)
{
        const char *route = strcmp(name, "rotate") == 0 ? "rotate-credentials" : name;
        auto_free char *path = mem_printf("/api/tenants/%s/%s", tenant_id, route);

        return api_post(path, body, NULL, ret);
}

static int carry_out(const char *name, const char *tenant_id, const json_t *body, int64_t wait_ms)
{
        auto_json *answer = NULL, *operation = NULL;
        int status = check_tenant(tenant_id, json_text(body, "confirm"));
        const char *id;

        if (status == EXIT_GOOD)
                status = send_command(name, tenant_id, body, &answer);
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
        if (wait_ms == 0)
                wait_hint(id);
        return status;
}

int run_tenant_command(int argc, char **argv)
{
        const char *reason = cli_option(&argc, argv, "reason"), *confirm = NULL;
        bool deletes = strcmp(argv[0], "deprovision") == 0;
        auto_json *body = json_object();
        int64_t wait_ms;
        struct id id;
        int status;

        if (deletes)
                confirm = cli_option(&argc, argv, "confirm");
        if (wait_option(&argc, argv, &wait_ms) != EXIT_GOOD || cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        if (deletes && confirm == NULL)
                return cli_usage(argv[0],
                                 "deletion is protected: repeat the tenant's subdomain with --confirm SUBDOMAIN");
        if ((reason != NULL && json_object_set_new(body, "reason", json_string(reason)) < 0) ||
            (confirm != NULL && json_object_set_new(body, "confirm", json_string(confirm)) < 0))
                return cli_fail(EXIT_USAGE, "an option's value is not valid UTF-8");
        status = api_find_tenant(argv[1], &id);
        return status == EXIT_GOOD ? carry_out(argv[0], id.text, body, wait_ms) : status;
}
