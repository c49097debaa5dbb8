/* `tenantry billing show|override`: what a tenant has bought, and what an operator gives it beside that. */
#include "cli/api.h"
#include "cli/billing.h"
#include "cli/tenant_command.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void billing_show_subscription(const json_t *billing)
{
        static const char *const LINES[][2] = {
                { "status", "status" },           { "reason", "reason" },          { "interval", "interval" },
                { "period end", "period_end" },   { "trial end", "trial_end" },    { "ends", "cancel_at" },
                { "grace until", "grace_until" }, { "archived on", "archive_at" },
        };
        const json_t *subscription = json_object_get(billing, "subscription");
        const json_t *pending = json_object_get(subscription, "pending");

        print_pair("plan", json_text(billing, "plan"));
        for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++)
                print_pair(LINES[i][0], json_text(subscription, LINES[i][1]));
        if (json_is_object(pending)) {
                auto_free char *text =
                        mem_printf("%s at %s", json_text(pending, "plan") ?: "?", json_text(pending, "at") ?: "?");

                print_pair("then", text);
        }
}

static void billing_show_override(const json_t *override)
{
        if (!json_is_object(override))
                return;
        print_pair("override", json_text(override, "plan") ?: "modules or limits");
        print_pair("  by", json_text(override, "by"));
        print_pair("  because", json_text(override, "reason"));
        print_pair("  until", json_text(override, "until"));
}

static void billing_show_over(const json_t *over)
{
        const json_t *each;
        size_t i;

        json_array_foreach (over, i, each) {
                auto_free char *text =
                        mem_printf("%s: %lld of %lld", json_text(each, "limit") ?: "?",
                                   (long long)json_number(each, "used", 0), (long long)json_number(each, "most", 0));

                print_pair("over", text);
        }
}

static void billing_show_invoices(const json_t *invoices)
{
        const json_t *each;
        size_t i;

        json_array_foreach (invoices, i, each) {
                auto_free char *text =
                        mem_printf("%s  %s  %lld %s  %s", json_text(each, "invoice_id") ?: "?",
                                   json_text(each, "status") ?: "?", (long long)json_number(each, "amount_due", 0),
                                   json_text(each, "currency") ?: "", json_text(each, "created") ?: "");

                print_pair("invoice", text);
        }
}

int billing_show(int argc, char **argv)
{
        auto_json *billing = NULL;
        auto_free char *path = NULL;
        const json_t *next;
        struct id id;
        int status = cli_expect(argc, argv, 2);

        if (status == EXIT_GOOD)
                status = api_find_tenant(argv[2], &id);
        if (status != EXIT_GOOD)
                return status;
        path = mem_printf("/api/tenants/%s/billing", id.text);
        status = api_get(path, &billing);
        if (status != EXIT_GOOD)
                return status;
        if (cli_json) {
                cli_print_answer(billing);
                return EXIT_GOOD;
        }
        print_pair("tenant", id.text);
        billing_show_subscription(billing);
        next = json_object_get(billing, "next");
        print_pair("next", json_text(next, "what"));
        print_pair("  at", json_text(next, "at"));
        billing_show_override(json_object_get(billing, "override"));
        billing_show_over(json_object_get(billing, "over"));
        print_pair("customer", json_text(billing, "customer_id"));
        print_pair("subscription", json_text(billing, "subscription_id"));
        billing_show_invoices(json_object_get(billing, "invoices"));
        return EXIT_GOOD;
}

/* Sends what is asked for, and waits: nobody should believe that it is done when it was refused. */
static int billing_send(const char *word, const char *what, json_t *body)
{
        auto_json *answer = NULL, *operation = NULL;
        auto_free char *path = NULL;
        struct id id;
        int status = api_find_tenant(word, &id);

        if (status != EXIT_GOOD)
                return status;
        path = mem_printf("/api/tenants/%s/billing/%s", id.text, what);
        status = wait_request(path, body, WAIT_DEFAULT_MS, &answer, &operation);
        if (answer != NULL && operation != NULL)
                json_object_set(answer, "operation", operation);
        if (cli_json && answer != NULL)
                cli_print_answer(answer);
        else if (operation != NULL)
                print_pair("state", json_text(operation, "state"));
        return status;
}

/* A day is the beginning of it. */
static char *billing_time(const char *text)
{
        if (text == NULL || strlen(text) != strlen("2027-12-31"))
                return mem_copy_text(text);
        return mem_printf("%sT00:00:00Z", text);
}

int billing_override(int argc, char **argv)
{
        const char *plan = cli_option(&argc, argv, "plan"), *reason = cli_option(&argc, argv, "reason");
        const char *by = cli_option(&argc, argv, "by") ?: getenv("USER");
        auto_free char *until = billing_time(cli_option(&argc, argv, "until"));
        bool removes = cli_flag(&argc, argv, "remove");
        auto_json *body = json_object();

        if (cli_expect(argc, argv, 2) != EXIT_GOOD)
                return EXIT_USAGE;
        if (removes == (plan != NULL))
                return cli_usage("billing", "say --plan PLAN, or --remove");
        if (reason == NULL || by == NULL)
                return cli_usage("billing", "say --reason WHY, and --by WHO: somebody will ask");
        if (removes)
                json_object_set_new(body, "remove", json_true());
        if (tenant_command_add(body, "plan", plan) != EXIT_GOOD ||
            tenant_command_add(body, "reason", reason) != EXIT_GOOD ||
            tenant_command_add(body, "by", by) != EXIT_GOOD || tenant_command_add(body, "until", until) != EXIT_GOOD)
                return EXIT_USAGE;
        return billing_send(argv[2], "override", body);
}

int billing_end_duplicate(int argc, char **argv)
{
        const char *reason = cli_option(&argc, argv, "reason");
        auto_json *body = json_object();

        if (cli_expect(argc, argv, 2) != EXIT_GOOD || tenant_command_add(body, "reason", reason) != EXIT_GOOD)
                return EXIT_USAGE;
        return billing_send(argv[2], "end-duplicate", body);
}
