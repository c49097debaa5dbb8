/* `tenantry wait`, and what --wait does: see wait.h. */
#include "cli/wait.h"

#include "cli/api.h"
#include "cli/migrate.h"
#include "cli/migrate_watch.h"
#include "cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define FIRST_PAUSE_MS   100
#define LONGEST_PAUSE_MS 1000
#define BAR_ERROR_WIDTH  60
#define UNKNOWN_GRACE_MS SECONDS(30) /* a signup's tenant becomes known a moment after its 202 */

struct waiting {
        int64_t started, timeout_ms, pause_ms;
        bool bar_shown, answered;
};

static void wait_pause(struct waiting *waiting)
{
        int64_t left = waiting->started + waiting->timeout_ms - clock_boot_ms();
        int64_t ms = MAX(1, MIN(waiting->pause_ms, left));

        nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
        waiting->pause_ms = MIN(LONGEST_PAUSE_MS, waiting->pause_ms * 3 / 2);
}

static bool wait_time_is_over(const struct waiting *waiting)
{
        return clock_boot_ms() >= waiting->started + waiting->timeout_ms;
}

static void wait_clear_bar(struct waiting *waiting)
{
        if (waiting->bar_shown)
                fputs("\r\033[K", stderr);
        waiting->bar_shown = false;
}

/* One line on standard error that is redrawn in place. */
static void wait_show_bar(struct waiting *waiting, const json_t *tenant)
{
        const json_t *activity = json_object_get(tenant, "activity");
        auto_free char *step = text_safe(json_text(activity, "step"));
        auto_free char *error = text_detail(json_text(json_object_get(activity, "error"), "detail"));
        auto_free char *shown = text_cut(error, BAR_ERROR_WIDTH);
        char bar[48];

        if (cli_json || !terminal_is(stderr) || !json_is_object(activity))
                return;
        progress_bar(bar, sizeof(bar), PROGRESS_BAR_WIDTH, (int)json_number(activity, "progress", 0));
        fprintf(stderr, "\r\033[K%s %s%s%s", bar, step, *shown ? ": " : "", shown);
        fflush(stderr);
        waiting->bar_shown = true;
}

static void wait_look_at_tenant(struct waiting *waiting, const char *tenant_id)
{
        auto_free char *path = mem_printf("/api/tenants/%s", tenant_id);
        struct api_answer answer;

        if (!terminal_is(stderr) || cli_json)
                return;
        if (api_send(&(struct api_request){ .method = "GET", .path = path }, &answer) == EXIT_GOOD)
                wait_show_bar(waiting, answer.body);
        api_answer_release(&answer);
}

/* Asks once. Returns true with *ret_code if there is no point in asking again: refused, or unreachable from the
 * start. */
static bool wait_ask(struct waiting *waiting, const char *path, struct api_answer *answer, int *ret_code)
{
        int code = api_send(&(struct api_request){ .method = "GET", .path = path }, answer);

        *ret_code = code;
        if (code == EXIT_GOOD || code == EXIT_NOT_FOUND) {
                waiting->answered = true;
                return false;
        }
        if (code == EXIT_AWAY && waiting->answered)
                return false; /* it had answered: it comes back, or our time runs out */
        wait_clear_bar(waiting);
        api_complain(answer, code);
        return true;
}

static int wait_not_in_time(struct waiting *waiting, const char *what)
{
        wait_clear_bar(waiting);
        if (cli_interrupted)
                return cli_fail(EXIT_TIMEOUT, "interrupted; %s continues", what);
        return cli_fail(EXIT_TIMEOUT, "%s did not end within %lld s; it continues", what,
                        (long long)(waiting->timeout_ms / 1000));
}

static int wait_told(const json_t *operation)
{
        const char *state = json_text(operation, "state");
        const char *field = json_text(operation, "field");
        auto_free char *detail = text_refusal(field, json_text(operation, "detail"));
        auto_free char *kind = text_safe(json_text(operation, "kind"));
        auto_json *members = json_object();

        if (strcmp(state, "succeeded") == 0)
                return EXIT_GOOD;
        if (json_text(operation, "code") != NULL)
                json_set_text(members, "code", json_text(operation, "code"));
        if (field != NULL)
                json_set_text(members, "field", field);
        if (strcmp(state, "rejected") == 0)
                return cli_fail_with(EXIT_REFUSED, members, "%s was refused: %s", kind, detail);
        if (strcmp(state, "superseded") == 0)
                return cli_fail_with(EXIT_FAILED, members, "%s was superseded by a later request", kind);
        return cli_fail_with(EXIT_FAILED, members, "%s failed: %s", kind, *detail ? detail : "see: tenantry explain");
}

void wait_hint(const char *operation_id)
{
        if (operation_id != NULL)
                printf("\nIt is on its way: tenantry wait operation %s\n", operation_id);
}

int wait_operation(const char *operation_id, const char *tenant_id, int64_t timeout_ms, json_t **ret)
{
        struct waiting waiting = { .started = clock_boot_ms(), .timeout_ms = timeout_ms, .pause_ms = FIRST_PAUSE_MS };
        auto_free char *path = mem_printf("/api/operations/%s", operation_id);

        cli_catch_interrupt();
        for (;;) {
                struct api_answer answer;
                int code;
                bool useless = wait_ask(&waiting, path, &answer, &code);
                auto_json *operation = TAKE_PTR(answer.body);
                const char *state = json_text(operation, "state");

                if (useless)
                        return code;
                if (code == EXIT_NOT_FOUND)
                        return cli_fail(code, "there is no operation %s", operation_id);
                if (state != NULL && code == EXIT_GOOD && ret != NULL) {
                        json_decref(*ret);
                        *ret = json_incref(operation);
                }
                if (state != NULL && code == EXIT_GOOD && strcmp(state, "accepted") != 0) {
                        wait_clear_bar(&waiting);
                        return wait_told(operation);
                }
                if (wait_time_is_over(&waiting) || cli_interrupted)
                        return wait_not_in_time(&waiting, "the operation");
                if (tenant_id != NULL)
                        wait_look_at_tenant(&waiting, tenant_id);
                wait_pause(&waiting);
        }
}

int wait_request(const char *path, json_t *body, int64_t timeout_ms, json_t **ret_answer, json_t **ret_operation)
{
        int status = api_post(path, body, NULL, ret_answer);

        if (status != EXIT_GOOD)
                return status;
        return wait_operation(json_text(*ret_answer, "operation_id"), NULL, timeout_ms, ret_operation);
}

/* Whether a tenant in this state will not reach the wanted one by itself. */
static bool wait_is_dead_end(const char *state, const char *wanted)
{
        if (strcmp(state, "attention") == 0 || strcmp(state, "deprovisioned") == 0)
                return true;
        return strcmp(state, "archived") == 0 && strcmp(wanted, "deprovisioned") != 0;
}

static int wait_dead_end(const json_t *tenant, const char *wanted)
{
        const json_t *reason = json_object_get(tenant, "reason");
        auto_free char *detail = text_detail(json_text(reason, "detail"));
        auto_json *members = json_object();

        if (json_text(reason, "code") != NULL)
                json_set_text(members, "code", json_text(reason, "code"));
        return cli_fail_with(EXIT_FAILED, members, "the tenant is in state %s and will not reach %s by itself%s%s",
                             json_text(tenant, "state"), wanted, *detail ? ": " : "", detail);
}

static int wait_tenant(const char *tenant_id, const char *wanted, int64_t timeout_ms, json_t **ret)
{
        struct waiting waiting = { .started = clock_boot_ms(), .timeout_ms = timeout_ms, .pause_ms = FIRST_PAUSE_MS };
        auto_free char *path = mem_printf("/api/tenants/%s", tenant_id);

        cli_catch_interrupt();
        for (;;) {
                struct api_answer answer;
                int code;
                bool useless = wait_ask(&waiting, path, &answer, &code);
                auto_json *tenant = TAKE_PTR(answer.body);
                const char *state = code == EXIT_GOOD ? json_text(tenant, "state") : NULL;

                if (useless)
                        return code;
                if (code == EXIT_NOT_FOUND && clock_boot_ms() - waiting.started >= MIN(timeout_ms, UNKNOWN_GRACE_MS))
                        return cli_fail(code, "there is no tenant %s", tenant_id);
                if (state != NULL && (strcmp(state, wanted) == 0 || wait_is_dead_end(state, wanted))) {
                        wait_clear_bar(&waiting);
                        *ret = json_incref(tenant);
                        return strcmp(state, wanted) == 0 ? EXIT_GOOD : wait_dead_end(tenant, wanted);
                }
                if (wait_time_is_over(&waiting) || cli_interrupted)
                        return wait_not_in_time(&waiting, "the tenant's change to that state");
                if (state != NULL)
                        wait_show_bar(&waiting, tenant);
                wait_pause(&waiting);
        }
}

bool tenant_state_exists(const char *state)
{
        static const char *const states[] = { "requested", "provisioning", "ready",
                                              "attention", "archived",     "deprovisioned" };

        for (size_t i = 0; i < ARRAY_SIZE(states); i++)
                if (strcmp(states[i], state) == 0)
                        return true;
        return false;
}

const char *tenant_state_shown(const json_t *snapshot)
{
        const char *applied = json_text(json_object_get(snapshot, "access"), "applied");
        const char *state = json_text(snapshot, "state") ?: "?";

        return strcmp(state, "ready") == 0 && applied != NULL && strcmp(applied, "full") != 0 ? "suspended" : state;
}

int wait_option(int *argc, char **argv, int64_t *ret_ms)
{
        const char *text = NULL;

        *ret_ms = 0;
        if (!cli_optional(argc, argv, "wait", &text))
                return EXIT_GOOD;
        *ret_ms = WAIT_DEFAULT_MS;
        return text ? cli_duration("--wait", text, ret_ms) : EXIT_GOOD;
}

/* The same lines in the same order for a tenant and for an operation; values that one of them lacks are left out. */
static void wait_show_seen(const json_t *seen)
{
        print_pair("tenant", json_text(seen, "tenant_id"));
        print_pair("operation", json_text(seen, "operation_id"));
        print_pair("subdomain", json_text(seen, "slug"));
        print_pair("state", json_text(seen, "state"));
}

static int wait_for_tenant(char **argv, const char *state, int64_t timeout_ms, json_t **ret)
{
        struct id id;
        int status;

        if (state == NULL || !tenant_state_exists(state))
                return cli_usage(
                        "wait", "--state is one of requested, provisioning, ready, attention, archived, deprovisioned");
        status = api_find_tenant(argv[2], &id);
        return status == EXIT_GOOD ? wait_tenant(id.text, state, timeout_ms, ret) : status;
}

static int wait_for_operation(const char *word, int64_t timeout_ms, json_t **ret)
{
        struct id id;
        int status = api_find_operation(word, &id);

        return status == EXIT_GOOD ? wait_operation(id.text, NULL, timeout_ms, ret) : status;
}

static int wait_for_migration(const char *word, int64_t timeout_ms)
{
        struct id run;
        int status = migrate_find_run(word, &run);

        return status == EXIT_GOOD ? migrate_watch_run(run.text, timeout_ms) : status;
}

int run_wait(int argc, char **argv)
{
        const char *state = cli_option(&argc, argv, "state"), *timeout = cli_option(&argc, argv, "timeout");
        int64_t timeout_ms = WAIT_DEFAULT_MS;
        int status = cli_expect(argc, argv, 2);
        auto_json *seen = NULL;

        if (status == EXIT_GOOD && timeout != NULL)
                status = cli_duration("--timeout", timeout, &timeout_ms);
        if (status != EXIT_GOOD)
                return status;
        if (strcmp(argv[1], "tenant") == 0)
                status = wait_for_tenant(argv, state, timeout_ms, &seen);
        else if (strcmp(argv[1], "operation") == 0)
                status = wait_for_operation(argv[2], timeout_ms, &seen);
        else if (strcmp(argv[1], "migration") == 0)
                return wait_for_migration(argv[2], timeout_ms);
        else
                return cli_usage("wait",
                                 "use `wait tenant ID --state STATE`, `wait operation ID` or `wait migration RUN`");
        if (cli_json && seen != NULL)
                cli_print_answer(seen);
        else if (seen != NULL)
                wait_show_seen(seen);
        return status;
}
