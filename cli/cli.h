/* The `tenantry` command: what its subcommands share. */
#pragma once

#include "common/base/json.h"

#include <stdbool.h>

/* Exit codes, the same for every command. */
enum exit_code {
        EXIT_GOOD = 0,
        EXIT_FAILED = 1,    /* it was tried and did not work */
        EXIT_USAGE = 2,     /* the call's words are off */
        EXIT_NOT_FOUND = 3, /* there is no such thing */
        EXIT_REFUSED = 4,   /* not allowed, or against a rule */
        EXIT_TIMEOUT = 5,   /* not in the time given */
        EXIT_AWAY = 6,      /* gateway, Kafka or PostgreSQL cannot be reached */
};

struct command {
        const char *name;      /* "suspend", "dlq" */
        const char *arguments; /* "TENANT [--reason TEXT]" */
        const char *summary;   /* one line for the overview */
        const char *details;   /* the manual page's body */
        int (*run)(int argc, char **argv); /* argv[0] is the command's name */
};

/* Ends with a NULL name. */
extern const struct command COMMANDS[];

/* True for --json on the command line; removed from argv by main. */
extern bool cli_json;

/* The value of --name VALUE (or --name=VALUE), taken out of argv; NULL where it is missing. */
const char *cli_option(int *argc, char **argv, const char *name);
/* True where --name stands in argv; taken out. */
bool cli_flag(int *argc, char **argv, const char *name);
/* Complains about words that are left over. Returns EXIT_GOOD or EXIT_USAGE. */
int cli_expect(int argc, char **argv, int words);
int cli_usage(const char *command, const char *complaint);
/* "tenantry: MESSAGE" on standard error; returns code. */
int cli_fail(enum exit_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The environment's value, or complains and returns NULL. */
const char *cli_environment(const char *name);

/* The commands, by file. */
int run_init(int argc, char **argv);
int run_keys(int argc, char **argv);
