/* The subcommands of `tenantry migrate`; argv[0] is "migrate", argv[1] the subcommand. Each returns the exit code. */
#pragma once

int migrate_import(int argc, char **argv);
