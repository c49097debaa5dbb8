/* `tenantry signup`: requests a new tenant, and waits for it if asked to. */
#include "cli/api.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

/* The API's fields and the command line's options have the same names. */
static const char *const FIELDS[] = { "company", "email", "name", "subdomain", "plan", "region" };

static json_t *signup_read_fields(int *argc, char **argv)
{
        json_t *body = json_object();

        for (size_t i = 0; i < ARRAY_SIZE(FIELDS); i++) {
                const char *value = cli_option(argc, argv, FIELDS[i]);

                if (value != NULL && json_object_set_new(body, FIELDS[i], json_string(value)) < 0) {
                        cli_fail(EXIT_USAGE, "--%s is not valid UTF-8", FIELDS[i]);
                        json_decref(body);
                        return NULL;
                }
        }
        return body;
}

static int signup_read_labels(int *argc, char **argv, json_t *body)
{
        json_t *list = json_array();
        const char *label;

        json_object_set_new(body, "labels", list);
        while ((label = cli_option(argc, argv, "label")) != NULL)
                if (json_array_append_new(list, json_string(label)) < 0)
                        return cli_fail(EXIT_USAGE, "--label is not valid UTF-8");
        if (json_array_size(list) == 0)
                json_object_del(body, "labels");
        return EXIT_GOOD;
}

/* A refusal may suggest alternatives: free subdomains. */
static void signup_print_suggestions(const json_t *operation)
{
        const json_t *list = json_object_get(json_object_get(operation, "result"), "suggestions"), *each;
        size_t i;

        json_array_foreach (list, i, each) {
                auto_free char *name = text_safe(json_string_value(each));

                fprintf(stderr, "%s%s%s", i ? ", " : "tenantry: free: ", name,
                        i + 1 == json_array_size(list) ? "\n" : "");
        }
}

/* The subdomain it got: the requested one, or one derived from the company. */
static void signup_add_subdomain(json_t *answer, const char *tenant_id)
{
        auto_free char *path = mem_printf("/api/tenants/%s", tenant_id);
        struct api_answer tenant;

        if (api_send(&(struct api_request){ .method = "GET", .path = path }, &tenant) == EXIT_GOOD &&
            json_text(tenant.body, "slug") != NULL)
                json_set_text(answer, "subdomain", json_text(tenant.body, "slug"));
        api_answer_release(&tenant);
}

static int signup_wait_until_ready(json_t *answer, int64_t wait_ms)
{
        const char *tenant = json_text(answer, "tenant_id"), *id = json_text(answer, "operation_id");
        auto_json *operation = NULL;
        int status;

        if (tenant == NULL || id == NULL)
                return cli_fail(EXIT_FAILED, "the gateway's answer has no operation_id");
        status = wait_operation(id, tenant, wait_ms, &operation);
        if (status == EXIT_REFUSED && !cli_json)
                signup_print_suggestions(operation);
        if (operation != NULL)
                json_object_set(answer, "operation", operation);
        if (operation != NULL && status != EXIT_REFUSED)
                signup_add_subdomain(answer, tenant);
        return status;
}

static void signup_show_outcome(const json_t *answer, bool waited, int status)
{
        const char *state = json_text(json_object_get(answer, "operation"), "state");

        print_pair("subdomain", json_text(answer, "subdomain"));
        print_pair("state", waited && status == EXIT_GOOD ? "ready" : state ? state : "accepted");
        if (!waited)
                wait_hint(json_text(answer, "operation_id"));
}

static int signup_send(const json_t *body, const char *key, int64_t wait_ms)
{
        auto_json *answer = NULL;
        int status = api_post("/api/signups", body, key, &answer);

        if (status != EXIT_GOOD)
                return status;
        if (!cli_json) {
                print_pair("tenant", json_text(answer, "tenant_id"));
                print_pair("operation", json_text(answer, "operation_id"));
                fflush(stdout);
        }
        if (wait_ms > 0)
                status = signup_wait_until_ready(answer, wait_ms);
        if (cli_json)
                cli_print_answer(answer);
        else
                signup_show_outcome(answer, wait_ms > 0, status);
        return status;
}

int run_signup(int argc, char **argv)
{
        const char *key = cli_option(&argc, argv, "key");
        auto_json *body = signup_read_fields(&argc, argv);
        int64_t wait_ms;

        if (body == NULL || signup_read_labels(&argc, argv, body) != EXIT_GOOD ||
            wait_option(&argc, argv, &wait_ms) != EXIT_GOOD || cli_expect(argc, argv, 0) != EXIT_GOOD)
                return EXIT_USAGE;
        if (json_text(body, "company") == NULL || json_text(body, "email") == NULL)
                return cli_usage("signup", "a signup needs --company and --email");
        return signup_send(body, key, wait_ms);
}
