/* `tenantry migrate status` and `watch`, and `tenantry wait migration`: see migrate_watch.h. */
#include "cli/migrate_watch.h"

#include "cli/api.h"
#include "cli/migrate.h"
#include "cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define INTERVAL_MS 500
#define PIPED_WIDTH 1000

/* The board is drawn over, line by line. */
static void watch_print(int width, const char *colour, const char *text)
{
        auto_free char *safe = text_safe(text), *shown = text_cut(safe, width - 1);

        printf("%s%s%s\n", colour, shown, *colour ? colour_end() : "");
}

/* "[#####-----]  45 %  wave 2: 45 of 100 tenants, 1 failed" */
static char *watch_describe_wave(const json_t *wave, int64_t current)
{
        int64_t tenants = json_number(wave, "tenants", 0), ended = json_number(wave, "ended", 0);
        int64_t failed = json_number(wave, "failed", 0), number = json_number(wave, "wave", 0);
        auto_free char *failures = failed > 0 ? mem_printf(", %lld failed", (long long)failed) : mem_copy_text("");
        char bar[48];

        progress_bar(bar, sizeof(bar), PROGRESS_BAR_WIDTH, tenants > 0 ? (int)(100 * ended / tenants) : 100);
        return mem_printf("%s  wave %lld%s: %lld of %lld tenants%s", bar, (long long)number,
                          number == current ? "" : " ", (long long)ended, (long long)tenants, failures);
}

static char *watch_describe_run(const json_t *run)
{
        const json_t *reason = json_object_get(run, "reason");
        const char *detail = json_text(reason, "detail"), *soak = json_text(run, "soak_until");
        auto_free char *time = text_time(soak);
        auto_free char *until = soak ? mem_printf(" until %s", time) : mem_copy_text("");
        auto_free char *rest = NULL;

        if (json_is_number(json_object_get(run, "remaining_s")))
                rest = mem_printf(", %.1f tenants a second, about %lld s left in this wave",
                                  json_number_value(json_object_get(run, "per_second")),
                                  (long long)json_number_value(json_object_get(run, "remaining_s")));
        return mem_printf("run %lld to %s: %s%s%s%s%s", (long long)json_number(run, "number", 0),
                          json_text(run, "target"), json_text(run, "state"), until, detail ? ": " : "",
                          detail ? detail : "", rest ? rest : "");
}

/* Whom it watches, and what was said of it from outside; returns how many lines that took. */
static int watch_print_watching(const json_t *run, int width)
{
        const json_t *probes = json_object_get(run, "probes");
        int lines = 0;
        json_t *each;
        size_t i;

        if (json_number(probes, "tenants", 0) > 0 && json_text(run, "ended_at") == NULL) {
                auto_free char *text = mem_printf("watches %lld tenants: %lld looked at since, %lld cannot be reached",
                                                  (long long)json_number(probes, "tenants", 0),
                                                  (long long)json_number(probes, "looked_at", 0),
                                                  (long long)json_number(probes, "unreachable", 0));

                watch_print(width, "", text);
                lines++;
        }
        json_array_foreach (json_object_get(run, "signals"), i, each) {
                const char *reason = json_text(each, "reason");
                auto_free char *text = mem_printf("signal %s: %s%s%s", json_text(each, "name"),
                                                  json_text(each, "verdict"), reason ? ": " : "", reason ?: "");

                watch_print(width, "", text);
                lines++;
        }
        return lines;
}

int migrate_show_run(const json_t *run, int width)
{
        auto_free char *head = watch_describe_run(run);
        int lines = 1;
        json_t *each;
        size_t i;

        watch_print(width, colour_of(json_text(run, "state")), head);
        json_array_foreach (json_object_get(run, "progress"), i, each) {
                auto_free char *text = watch_describe_wave(each, json_number(run, "wave", 0));

                watch_print(width, "", text);
                lines++;
        }
        lines += watch_print_watching(run, width);
        json_array_foreach (json_object_get(run, "failures"), i, each) {
                auto_free char *detail = text_detail(json_text(each, "example"));
                auto_free char *text = mem_printf("%lld x %s: %s", (long long)json_number(each, "count", 0),
                                                  json_text(each, "code"), detail);

                watch_print(width, "", text);
                lines++;
        }
        return lines;
}

static bool watch_has_ended(const char *state)
{
        return strcmp(state, "completed") == 0 || strcmp(state, "rolled_back") == 0 ||
               strcmp(state, "cancelled") == 0 || strcmp(state, "halted") == 0;
}

/* What a pipeline must know: only a run that brought its files to everybody lets it go on. */
static int watch_verdict(const json_t *run)
{
        const json_t *states = json_object_get(run, "states");

        bool good = strcmp(json_text(run, "state"), "completed") == 0 && json_number(states, "failed", 0) == 0;

        if (json_flag(json_object_get(run, "options"), "dry_run"))
                good &= json_number(json_object_get(run, "forecast"), "failed", 0) == 0;
        return good ? EXIT_GOOD : EXIT_FAILED;
}

static void watch_draw(const json_t *run, int *drawn, char **last)
{
        auto_free char *line = watch_describe_run(run);

        if (terminal_is(stdout)) {
                if (*drawn > 0)
                        printf("\033[%dA\033[J", *drawn);
                *drawn = migrate_show_run(run, terminal_width());
        } else if (*last == NULL || strcmp(*last, line) != 0) {
                *drawn = migrate_show_run(run, PIPED_WIDTH);
                free(*last);
                *last = TAKE_PTR(line);
        }
        fflush(stdout);
}

int migrate_watch_run(const char *run_id, int64_t timeout_ms)
{
        auto_free char *path = mem_printf("/api/admin/migrations/runs/%s", run_id), *last = NULL;
        int64_t until = timeout_ms == INT64_MAX ? INT64_MAX : clock_boot_ms() + timeout_ms;
        int drawn = 0;
        bool answered = false;

        cli_catch_interrupt();
        for (;;) {
                struct api_answer answer;
                int code = api_send(&(struct api_request){ .method = "GET", .path = path }, &answer);
                auto_json *run = json_incref(answer.body);

                if (code != EXIT_GOOD && !(code == EXIT_AWAY && answered)) {
                        api_complain(&answer, code);
                        api_answer_release(&answer);
                        return code;
                }
                api_answer_release(&answer);
                if (code == EXIT_GOOD) {
                        answered = true;
                        if (cli_json)
                                print_json_line(run);
                        else
                                watch_draw(run, &drawn, &last);
                        if (watch_has_ended(json_text(run, "state")))
                                return watch_verdict(run);
                }
                if (cli_interrupted || clock_boot_ms() >= until)
                        return cli_fail(EXIT_TIMEOUT, "the run goes on: tenantry migrate watch %s", run_id);
                nanosleep(&(struct timespec){ .tv_nsec = INTERVAL_MS * 1000000L }, NULL);
        }
}

int migrate_watch(int argc, char **argv)
{
        struct id run;
        int status = argc > 3 ? cli_expect(argc, argv, 2) : EXIT_GOOD;

        if (status == EXIT_GOOD)
                status = migrate_find_run(argc == 3 ? argv[2] : NULL, &run);
        return status == EXIT_GOOD ? migrate_watch_run(run.text, INT64_MAX) : status;
}

static void watch_show_runs(const char *what, const json_t *runs)
{
        json_t *run;
        size_t i;

        json_array_foreach (runs, i, run) {
                auto_free char *text = watch_describe_run(run), *safe = text_safe(text);

                printf("%s: %s\n", what, safe);
        }
}

static int watch_show_one(const char *word)
{
        struct id id;
        auto_free char *path = NULL;
        auto_json *run = NULL;
        int status = migrate_find_run(word, &id);

        if (status != EXIT_GOOD)
                return status;
        path = mem_printf("/api/admin/migrations/runs/%s", id.text);
        status = api_get(path, &run);
        if (status == EXIT_GOOD && cli_json)
                cli_print_answer(run);
        else if (status == EXIT_GOOD)
                migrate_show_run(run, terminal_is(stdout) ? terminal_width() : PIPED_WIDTH);
        return status;
}

int migrate_status(int argc, char **argv)
{
        auto_json *answer = NULL;
        int status = argc > 3 ? cli_expect(argc, argv, 2) : EXIT_GOOD;

        if (status == EXIT_GOOD && argc == 3)
                return watch_show_one(argv[2]);
        if (status == EXIT_GOOD)
                status = api_get("/api/admin/migrations/status", &answer);
        if (status != EXIT_GOOD)
                return status;
        if (cli_json) {
                cli_print_answer(answer);
                return status;
        }
        if (json_is_object(json_object_get(answer, "active")))
                migrate_show_run(json_object_get(answer, "active"),
                                 terminal_is(stdout) ? terminal_width() : PIPED_WIDTH);
        else
                puts("no run is at work");
        watch_show_runs("waits", json_object_get(answer, "queued"));
        watch_show_runs("ended", json_object_get(answer, "ended"));
        print_pair("rolled out", json_text(answer, "rolled_out"));
        return status;
}
