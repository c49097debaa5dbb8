/* The migration engine on one database, for tests of what `tenantry init` has no words for:
 *
 *   migrate-one URL DIRECTORY FENCE apply [TARGET] | apply-out-of-order | revert VERSION...
 *
 * ENGINE_FAILPOINTS arms failpoints. Prints the newest version, or the error's code and message; exits with 0 or 1. */
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/migration/apply.h"

#include <stdio.h>
#include <string.h>

struct run {
        uv_loop_t loop;
        struct pg_conn *conn;
        struct migration_set *set;
        struct migration_options options;
        const char *const *versions;
        size_t count;
        int status;
};

static void engine_end(struct run *run, const struct err *err)
{
        if (err != NULL)
                printf("%s: %s\n", err->code, err->message);
        run->status = err != NULL;
        pg_close(TAKE_PTR(run->conn));
}

static void engine_applied(void *context, const struct migration_outcome *outcome, const struct err *err)
{
        if (err == NULL)
                puts(outcome->version ? outcome->version : "none");
        engine_end(context, err);
}

static void engine_ledger_made(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct run *run = context;

        (void)rows;
        if (err != NULL)
                engine_end(run, err);
        else if (run->versions != NULL)
                migration_revert(run->conn, run->set, run->versions, run->count, &run->options, engine_applied, run);
        else
                migration_apply(run->conn, run->set, &run->options, engine_applied, run);
}

static void engine_connected(void *context, const struct err *err)
{
        struct run *run = context;

        if (err != NULL)
                engine_end(run, err);
        else
                pg_script(run->conn, SECONDS(10), MIGRATION_LEDGER, engine_ledger_made, run);
}

int main(int argc, char **argv)
{
        struct run run = { 0 };
        struct pg_target target = { .url = argv[1] };
        struct err err;

        if (getenv("ENGINE_FAILPOINTS") != NULL && failpoint_arm(getenv("ENGINE_FAILPOINTS"), &err) < 0)
                return 2;
        if (argc < 5)
                return 2;
        if (migration_set_load(argv[2], &run.set, &err) < 0) {
                printf("%s: %s\n", err.code, err.message);
                return 1;
        }
        run.options.fence = argv[3];
        run.options.out_of_order = strcmp(argv[4], "apply-out-of-order") == 0;
        if (strcmp(argv[4], "revert") == 0)
                run.versions = (const char *const *)argv + 5, run.count = (size_t)argc - 5;
        else if (argc > 5)
                run.options.target = argv[5];
        uv_loop_init(&run.loop);
        run.conn = pg_open(&run.loop, &target, engine_connected, &run);
        uv_run(&run.loop, UV_RUN_DEFAULT);
        uv_loop_close(&run.loop);
        migration_set_free(run.set);
        return run.status;
}
