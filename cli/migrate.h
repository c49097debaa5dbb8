/* `tenantry migrate`: its subcommands, by file. Each takes argv with "migrate" as its first word and its own name as
 * the second, and returns the exit code. */
#pragma once

#include "cli/cli.h"

int migrate_new(int argc, char **argv);
int migrate_lint(int argc, char **argv);
