/* `tenantry init`: creates or updates what everything else depends on: roles, catalog, topics. The only command that
 * needs direct access; safe to run again at any time. */
#include "cli/cli.h"
#include "cli/terminal.h"
#include "cli/topics.h"
#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/apply.h"
#include "common/pg/scram.h"
#include "common/service/services.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATEMENT_TIMEOUT SECONDS(30)

static const struct {
        const char *name;
        bool works;
} SERVICE_LOGINS[] = {
#define SERVICE_LOGIN(login, has_login) { .name = #login, .works = has_login },
        SERVICES(SERVICE_LOGIN)
#undef SERVICE_LOGIN
};

/* One run; its callbacks are in order from top to bottom of this file. */
struct init {
        uv_loop_t loop;
        struct pg_conn *conn;
        struct migration_set *migrations;
        json_t *snapshots; /* services' topics of snapshots */
        char *version;     /* of the catalog, once it is up to date */
        int status;
};

static void init_stop(struct init *init, int status)
{
        init->status = status;
        pg_close(TAKE_PTR(init->conn));
}

static const char SQL_SNAPSHOTS[] = "select coalesce(jsonb_agg(topic order by topic), '[]')::text as topics "
                                    "from catalog.snapshot_topic";

/* Files that are not the catalog's may have been applied: then there are no such topics. */
static void init_topics_read(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct init *init = context;

        if (err == NULL)
                json_parse(pg_text(rows, 0, "topics"), strlen(pg_text(rows, 0, "topics")), &init->snapshots, NULL);
        if (err != NULL && strcmp(err->code, "42P01") != 0 && strcmp(err->code, "3F000") != 0)
                init_stop(init, cli_fail(EXIT_FAILED, "the catalog's topics could not be read: %s", err->message));
        else
                init_stop(init, EXIT_GOOD);
}

static void init_catalog_migrated(void *context, const struct migration_outcome *outcome, const struct err *err)
{
        struct init *init = context;

        if (err != NULL) {
                init_stop(init, cli_fail(EXIT_FAILED, "the catalog could not be brought up to date: %s", err->message));
                return;
        }
        init->version = mem_copy_text(outcome->version);
        if (!cli_json)
                printf("catalog: version %s\n", outcome->version ? outcome->version : "none");
        pg_exec(init->conn, STATEMENT_TIMEOUT, SQL_SNAPSHOTS, 0, NULL, init_topics_read, init);
}

static void init_ledger_made(void *context, const struct pg_rows *rows, const struct err *err)
{
        static const struct migration_options options = { .fence = "0", .lock_timeout_ms = SECONDS(5) };
        struct init *init = context;

        (void)rows;
        if (err != NULL) {
                init_stop(init, cli_fail(EXIT_FAILED, "the catalog's ledger could not be created: %s", err->message));
                return;
        }
        migration_apply(init->conn, init->migrations, &options, init_catalog_migrated, init);
}

static void init_roles_made(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct init *init = context;

        (void)rows;
        if (err != NULL)
                init_stop(init, cli_fail(EXIT_FAILED, "the services' roles could not be created: %s", err->message));
        else
                pg_script(init->conn, STATEMENT_TIMEOUT, MIGRATION_LEDGER, init_ledger_made, init);
}

/* A login role per service. Its password is set if CATALOG_PASSWORD_SERVICE is given, otherwise left unchanged. */
static void init_make_roles(struct init *init)
{
        auto_buf sql = { 0 };

        buf_add_text(&sql, "do $tenantry$ begin "
                           "if not exists (select from pg_roles where rolname = 'tenantry_service') then "
                           "create role tenantry_service nologin; end if; ");
        for (size_t i = 0; i < ARRAY_SIZE(SERVICE_LOGINS); i++) {
                const char *name = SERVICE_LOGINS[i].name, *password;
                auto_free char *variable = mem_printf("CATALOG_PASSWORD_%s", name), *verifier = NULL;

                for (char *p = variable; *p; p++)
                        *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
                password = cli_setting(variable);
                buf_printf(&sql,
                           "if not exists (select from pg_roles where rolname = 'tenantry_%1$s') then "
                           "create role tenantry_%1$s login; end if; "
                           "execute format('grant connect on database %%I to tenantry_%1$s', current_database()); ",
                           name);
                if (SERVICE_LOGINS[i].works)
                        buf_printf(&sql, "grant tenantry_service to tenantry_%s; ", name);
                if (password == NULL)
                        continue;
                verifier = scram_verifier(password);
                buf_printf(&sql, "alter role tenantry_%s login password '%s'; ", name, verifier);
        }
        buf_add_text(&sql, "execute format('revoke all on database %I from public', current_database()); "
                           "end $tenantry$");
        pg_script(init->conn, STATEMENT_TIMEOUT, sql.data, init_roles_made, init);
}

static void init_connected(void *context, const struct err *err)
{
        struct init *init = context;

        if (err != NULL)
                init_stop(init, cli_fail(EXIT_AWAY, "%s", err->message));
        else
                init_make_roles(init);
}

/* The caller frees *ret_version and *ret_snapshots. */
static int init_catalog(const char *directory, char **ret_version, json_t **ret_snapshots)
{
        struct init init = { 0 };
        struct pg_target target = { .url = cli_environment("CATALOG_ADMIN_URL"), .application_name = "tenantry-init" };
        struct err err;

        if (target.url == NULL)
                return EXIT_USAGE;
        if (access(directory, R_OK | X_OK) != 0)
                return cli_fail(EXIT_FAILED, "cannot read the migrations in %s; name them with --migrations DIR",
                                directory);
        if (migration_set_load(directory, &init.migrations, &err) < 0)
                return cli_fail(EXIT_FAILED, "%s", err.message);
        uv_loop_init(&init.loop);
        init.conn = pg_open(&init.loop, &target, init_connected, &init);
        uv_run(&init.loop, UV_RUN_DEFAULT);
        uv_loop_close(&init.loop);
        migration_set_free(init.migrations);
        *ret_version = init.version;
        *ret_snapshots = init.snapshots;
        return init.status;
}

/* Complains unless it is a whole number of 1 or more. */
static int init_read_count(int *argc, char **argv, const char *name, int64_t *ret)
{
        const char *text = cli_option(argc, argv, name);

        return text ? cli_count(name, text, ret) : EXIT_GOOD;
}

int run_init(int argc, char **argv)
{
        const char *directory = cli_option(&argc, argv, "migrations");
        bool only_catalog = cli_flag(&argc, argv, "no-topics");
        auto_json *made = json_array(), *whole = NULL, *snapshots = NULL;
        auto_free char *version = NULL;
        int64_t partitions = 6, replication = 1;
        int status;

        if (init_read_count(&argc, argv, "partitions", &partitions) != EXIT_GOOD ||
            init_read_count(&argc, argv, "replication", &replication) != EXIT_GOOD ||
            cli_expect(argc, argv, 0) != EXIT_GOOD)
                return EXIT_USAGE;
        status = init_catalog(directory ? directory : "migrations/catalog", &version, &snapshots);
        if (status == EXIT_GOOD && !only_catalog)
                status = topics_create((int)partitions, (int)replication, snapshots, made);
        if (cli_json) {
                whole = json_pack("{s:s?, s:O}", "catalog_version", version, "topics_made", made);
                cli_print_answer(whole);
        }
        return status;
}
