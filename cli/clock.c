/* `tenantry clock`: business time, which can be advanced in a sandbox: from one due timer to the next, each handled
 * before the clock moves on, as if that time had passed. */
#include "common/base/clock.h"
#include "cli/cli.h"
#include "cli/server.h"
#include "common/base/err.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOOK_INTERVAL_US 100000
#define TIMEOUT          SECONDS(60)

static const char SQL_NOW[] = "select catalog.json_time(catalog.business_now())";

static const char SQL_AHEAD[] = "select (extract(epoch from ahead) * 1000)::bigint from catalog.business_clock";

static const char SQL_WAITS_FOR[] = "select catalog.clock_waits_for()";

static int clock_fail(PGconn *conn)
{
        auto_free char *why = server_why(conn);

        return cli_fail(PQstatus(conn) == CONNECTION_OK ? EXIT_FAILED : EXIT_AWAY, "the catalog: %s", why);
}

/* Waits until everything due by now has been handled. */
static int clock_settle(PGconn *conn, int64_t timeout_ms)
{
        int64_t deadline = clock_boot_ms() + timeout_ms;

        for (;;) {
                auto_free char *what = server_ask(conn, SQL_WAITS_FOR);

                if (what == NULL)
                        return clock_fail(conn);
                if (*what == '\0')
                        return EXIT_GOOD;
                if (cli_interrupted || clock_boot_ms() > deadline)
                        return cli_fail(EXIT_TIMEOUT, "the clock has stopped: %s has not been handled", what);
                usleep(LOOK_INTERVAL_US);
        }
}

static int clock_advance(PGconn *conn, int64_t by_ms, int64_t timeout_ms, json_t *stops)
{
        auto_free char *sql_until =
                mem_printf("select (catalog.business_now() + %lld * interval '1 ms')::text", (long long)by_ms);
        auto_free char *until = server_ask(conn, sql_until);
        auto_free char *sql_move =
                mem_printf("select catalog.json_time(t) || case when t >= '%1$s' then ' ' else '' end "
                           "from catalog.clock_move('%1$s') t",
                           until ? until : "");
        int status = until ? clock_settle(conn, timeout_ms) : clock_fail(conn);
        bool there = false;

        while (status == EXIT_GOOD && !there) {
                auto_free char *stop = server_ask(conn, sql_move);

                if (stop == NULL)
                        return clock_fail(conn);
                there = stop[strlen(stop) - 1] == ' ';
                stop[strcspn(stop, " ")] = '\0';
                json_array_append_new(stops, json_string(stop));
                if (!cli_json)
                        printf("%s\n", stop);
                fflush(stdout);
                status = clock_settle(conn, timeout_ms);
        }
        return status;
}

static int clock_show(PGconn *conn, json_t *stops)
{
        auto_free char *now = server_ask(conn, SQL_NOW), *ahead = server_ask(conn, SQL_AHEAD);
        auto_json *answer = NULL;

        if (now == NULL || ahead == NULL)
                return clock_fail(conn);
        answer = json_pack("{s:s, s:I, s:O}", "business_time", now, "ahead_ms", (json_int_t)atoll(ahead), "stops",
                           stops);
        if (cli_json)
                cli_print_answer(answer);
        else if (json_array_size(stops) == 0)
                printf("%s business time, %.1f hours ahead\n", now, (double)atoll(ahead) / 3600000);
        return EXIT_GOOD;
}

int run_clock(int argc, char **argv)
{
        const char *timeout = cli_option(&argc, argv, "timeout"), *sandbox = cli_setting("SANDBOX"), *url;
        auto_json *stops = json_array();
        auto_free char *why = NULL;
        int64_t by_ms = 0, timeout_ms = TIMEOUT;
        bool advance = argc > 1 && strcmp(argv[1], "advance") == 0;
        int status;
        PGconn *conn;

        if (argc > 1 && !advance)
                return cli_usage("clock", "the only argument is advance");
        if (advance && argc < 3)
                return cli_usage("clock", "how far? advance 24h");
        if (cli_expect(argc, argv, advance ? 2 : 0) != EXIT_GOOD ||
            (advance && cli_duration("advance", argv[2], &by_ms) != EXIT_GOOD) ||
            (timeout != NULL && cli_duration("timeout", timeout, &timeout_ms) != EXIT_GOOD))
                return EXIT_USAGE;
        if (advance && (sandbox == NULL || strcmp(sandbox, "1") != 0))
                return cli_fail(EXIT_REFUSED,
                                "only a sandbox's clock can be advanced: SANDBOX=1 declares this to be one");
        url = cli_setting("CATALOG_ADMIN_URL");
        if (url == NULL)
                url = cli_environment("CATALOG_DATABASE_URL");
        if (url == NULL)
                return EXIT_USAGE;
        conn = server_connect(url, "tenantry-clock", &why);
        if (conn == NULL)
                return cli_fail(EXIT_AWAY, "the catalog: %s", why);
        cli_catch_interrupt();
        status = advance ? clock_advance(conn, by_ms, timeout_ms, stops) : EXIT_GOOD;
        if (status == EXIT_GOOD)
                status = clock_show(conn, stops);
        PQfinish(conn);
        return status;
}
