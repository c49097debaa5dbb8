/* `tenantry migrate`: finds the subcommand. */
#include "cli/migrate.h"
#include "common/base/buf.h"

#include <string.h>

static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
} SUBCOMMANDS[] = {
        { "new", migrate_new },           { "lint", migrate_lint },       { "import", migrate_import },
        { "register", migrate_register }, { "show", migrate_show },       { "withdraw", migrate_withdraw },
        { "run", migrate_run },           { "dry-run", migrate_run },     { "status", migrate_status },
        { "tenants", migrate_tenants },   { "watch", migrate_watch },     { "pause", migrate_command },
        { "resume", migrate_command },    { "promote", migrate_command }, { "halt", migrate_command },
        { "rollback", migrate_command },  { "cancel", migrate_command },  { "retry", migrate_command },
        { "mark", migrate_command },      { "signal", migrate_signal },
};

static int migrate_name_subcommands(void)
{
        auto_buf names = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(SUBCOMMANDS); i++)
                buf_printf(&names, "%s%s", i == 0 ? "" : ", ", SUBCOMMANDS[i].name);
        return cli_fail(EXIT_USAGE, "use `migrate` with one of %s (see: tenantry migrate --help)", names.data);
}

int run_migrate(int argc, char **argv)
{
        for (size_t i = 0; argc >= 2 && i < ARRAY_SIZE(SUBCOMMANDS); i++)
                if (strcmp(argv[1], SUBCOMMANDS[i].name) == 0)
                        return SUBCOMMANDS[i].run(argc, argv);
        return migrate_name_subcommands();
}
