/* `tenantry migrate`: its subcommands, by file. Each takes argv with "migrate" as its first word and its own name as
 * the second, and returns the exit code. */
#pragma once

#include "cli/cli.h"
#include "common/base/id.h"

int migrate_new(int argc, char **argv);
int migrate_lint(int argc, char **argv);
int migrate_import(int argc, char **argv);
int migrate_register(int argc, char **argv);
int migrate_show(int argc, char **argv);
int migrate_withdraw(int argc, char **argv);
int migrate_run(int argc, char **argv);
int migrate_status(int argc, char **argv);
int migrate_tenants(int argc, char **argv);
int migrate_watch(int argc, char **argv);
int migrate_signal(int argc, char **argv);
int migrate_command(int argc, char **argv); /* pause, resume, promote, halt, rollback, cancel, retry, mark */

/* A run's id from its number, its id or the beginning of one; NULL: of the run at work, or else of the last one.
 * Complains if there is none. */
int migrate_find_run(const char *word, struct id *ret);
