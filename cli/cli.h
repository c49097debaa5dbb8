/* The `tenantry` command: what its subcommands share. */
#pragma once

#include "common/base/json.h"

#include <signal.h>
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
        const char *name;                  /* "suspend", "dlq" */
        const char *arguments;             /* "TENANT [--reason TEXT]" */
        const char *summary;               /* one line for the overview */
        const char *details;               /* the manual page's body */
        int (*run)(int argc, char **argv); /* argv[0] is the command's name */
        bool listed;                       /* it knows -o name and -o wide */
};

/* Ends with a NULL name. */
extern const struct command COMMANDS[];
/* NULL where there is none of that name. */
const struct command *cli_find_command(const char *name);

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_NAME, OUTPUT_WIDE };

/* What -o FORMAT or --json say; both are removed from argv by main. */
extern enum output cli_output;
/* True where the answer is for machines: JSON, or YAML, which is written by the same functions. */
extern bool cli_json;
/* Set by SIGINT and SIGTERM once cli_catch_interrupt was called: what waits or follows then ends in good order. */
extern volatile sig_atomic_t cli_interrupted;
void cli_catch_interrupt(void);

/* The value of --name VALUE (or --name=VALUE), taken out of argv; NULL where it is missing. */
const char *cli_option(int *argc, char **argv, const char *name);
/* True where --name stands in argv; taken out. */
bool cli_flag(int *argc, char **argv, const char *name);
/* For --name and --name=VALUE, where the value may be left out (then *ret stays). True where it stands in argv. */
bool cli_optional(int *argc, char **argv, const char *name, const char **ret);
/* "5m", "30s", "500ms"; a bare number is seconds. Complains and returns EXIT_USAGE for anything else. */
int cli_duration(const char *option, const char *text, int64_t *ret_ms);
/* A whole number of 1 or more. Complains and returns EXIT_USAGE for anything else. */
int cli_count(const char *option, const char *text, int64_t *ret);
/* Takes -o FORMAT, --output FORMAT and --json out of argv. EXIT_USAGE, after complaining, for a format that is none. */
int cli_take_output(int *argc, char **argv);
/* Complains about words that are left over. Returns EXIT_GOOD or EXIT_USAGE. */
int cli_expect(int argc, char **argv, int words);
int cli_usage(const char *command, const char *complaint);
/* EXIT_USAGE, after complaining, for an option that the command does not have, and where one that takes a value has
 * none or one that begins with --. */
int cli_check_options(const struct command *command, int argc, char **argv);
/* ASCII letters, in place: ids and subdomains have small ones only. */
void cli_lower_case(char *word);

/* "tenantry: MESSAGE" on standard error, and with --json the first of a call is kept as its error; returns code. */
int cli_fail(enum exit_code code, const char *format, ...) PRINTF(2, 3);
/* The same; more (borrowed, may be NULL) has further members of the error: "code", "field". */
int cli_fail_with(enum exit_code code, const json_t *more, const char *format, ...) PRINTF(3, 4);
/* While true, failures are told by their exit code only: who follows something for ever does not repeat itself. */
void cli_keep_silent(bool silent);
/* Keeps the error without a word on standard error, in place of one that is kept already. */
int cli_blame(enum exit_code code, const char *message);
/* Prints an object (borrowed), with --json's "error" in it where something failed. */
void cli_print_answer(const json_t *answer);
/* Prints {"error": ...} where a --json call failed and no answer had it. */
void cli_print_failure(int code);

/* The environment's value, or complains and returns NULL. */
const char *cli_environment(const char *name);
/* The same without complaint; an empty value counts as none. */
const char *cli_setting(const char *name);

/* The commands, by file. */
int run_init(int argc, char **argv);
int run_clock(int argc, char **argv);
int run_keys(int argc, char **argv);
int run_signup(int argc, char **argv);
int run_tenants(int argc, char **argv);
int run_tenant(int argc, char **argv);
int run_connection(int argc, char **argv);
int run_watch(int argc, char **argv);
int run_wait(int argc, char **argv);
int run_tenant_command(int argc, char **argv); /* suspend, resume, archive, ... by argv[0] */
int run_explain(int argc, char **argv);
int run_operation(int argc, char **argv);
int run_inventory(int argc, char **argv);
int run_alerts(int argc, char **argv);
int run_dlq(int argc, char **argv);
int run_events(int argc, char **argv);
int run_archive(int argc, char **argv);
int run_doctor(int argc, char **argv);
int run_completion(int argc, char **argv);
