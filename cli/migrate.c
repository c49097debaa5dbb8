/* `tenantry migrate`: migration files, before any tenant has them. */
#include "cli/migrate.h"

#include "cli/cli.h"

#include <string.h>

int run_migrate(int argc, char **argv)
{
        if (argc >= 2 && strcmp(argv[1], "import") == 0)
                return migrate_import(argc, argv);
        return cli_usage("migrate", "use `migrate import NAME`");
}
