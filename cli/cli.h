/* The `tenantry` command: what its subcommands share. */
#pragma once

#include "common/base/json.h"

#include <signal.h>
#include <stdbool.h>

/* Exit codes, the same for every command. */
enum exit_code {
        EXIT_GOOD = 0,
        EXIT_FAILED = 1,    /* tried and failed */
        EXIT_USAGE = 2,     /* wrong usage */
        EXIT_NOT_FOUND = 3, /* not found */
        EXIT_REFUSED = 4,   /* not permitted, or against a rule */
        EXIT_TIMEOUT = 5,   /* not done in the time given */
        EXIT_AWAY = 6,      /* gateway, Kafka or PostgreSQL cannot be reached */
};

struct command {
        const char *name;                  /* "suspend", "dlq" */
        const char *arguments;             /* "TENANT [--reason TEXT]" */
        const char *summary;               /* one line for the overview */
        const char *details;               /* the manual page's body */
        int (*run)(int argc, char **argv); /* argv[0] is the command's name */
        bool listed;                       /* it supports -o name and -o wide */
};

/* Ends with a NULL name. */
extern const struct command COMMANDS[];
/* NULL if there is none of that name. */
const struct command *cli_find_command(const char *name);

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_NAME, OUTPUT_WIDE };

/* The format from -o FORMAT or --json; main removes both from argv. */
extern enum output cli_output;
/* True if the output is for machines: JSON, or YAML, which is written by the same functions. */
extern bool cli_json;
/* Set by SIGINT and SIGTERM once cli_catch_interrupt was called: commands that wait or follow then end cleanly. */
extern volatile sig_atomic_t cli_interrupted;
void cli_catch_interrupt(void);

/* How many words there are before the word `--`: what follows it is no option. */
int cli_options_end(int argc, char **argv);
/* The value of --name VALUE (or --name=VALUE), removed from argv; NULL if it is missing. */
const char *cli_option(int *argc, char **argv, const char *name);
/* True if --name is in argv; removes it. */
bool cli_flag(int *argc, char **argv, const char *name);
/* For --name and --name=VALUE, where the value may be omitted (then *ret is unchanged). True if it is in argv. */
bool cli_optional(int *argc, char **argv, const char *name, const char **ret);
/* "5m", "30s", "500ms"; a bare number is seconds. Complains and returns EXIT_USAGE for anything else. */
int cli_duration(const char *option, const char *text, int64_t *ret_ms);
/* A whole number of 1 or more. Complains and returns EXIT_USAGE for anything else. */
int cli_count(const char *option, const char *text, int64_t *ret);
/* Removes -o FORMAT, --output FORMAT and --json from argv. EXIT_USAGE, after complaining, for an unknown format. */
int cli_take_output(int *argc, char **argv);
/* Complains about remaining words. Returns EXIT_GOOD or EXIT_USAGE. */
int cli_expect(int argc, char **argv, int words);
int cli_usage(const char *command, const char *complaint);
/* EXIT_USAGE, after complaining, for an unknown option, and for an option whose value is missing or begins with --. */
int cli_check_options(const struct command *command, int argc, char **argv);
/* Lower-cases ASCII letters in place: ids and subdomains have only lower case. */
void cli_lower_case(char *word);

/* "tenantry: MESSAGE" on standard error; with --json the first one is kept as the error of the command. Returns
 * code. */
int cli_fail(enum exit_code code, const char *format, ...) PRINTF(2, 3);
/* The same; more (borrowed, may be NULL) has further members of the error: "code", "field". */
int cli_fail_with(enum exit_code code, const json_t *more, const char *format, ...) PRINTF(3, 4);
/* While true, failures are reported only by their exit code: a command that follows something does not repeat
 * itself. */
void cli_keep_silent(bool silent);
/* Keeps the error without printing it, replacing one that is already kept. */
int cli_blame(enum exit_code code, const char *message);
/* Prints an object (borrowed), with "error" added for --json if something failed. */
void cli_print_answer(const json_t *answer);
/* Prints {"error": ...} if a --json command failed and no answer contained the error. */
void cli_print_failure(int code);

/* The value from the environment, or complains and returns NULL. */
const char *cli_environment(const char *name);
/* The same without complaining; an empty value counts as none. */
const char *cli_setting(const char *name);

/* The commands, by file. */
int run_init(int argc, char **argv);
int run_migrate(int argc, char **argv);
int run_drift(int argc, char **argv);
int run_billing(int argc, char **argv);
int run_clock(int argc, char **argv);
int run_keys(int argc, char **argv);
int run_signup(int argc, char **argv);
int run_tenants(int argc, char **argv);
int run_tenant(int argc, char **argv);
int run_connection(int argc, char **argv);
int run_watch(int argc, char **argv);
int run_wait(int argc, char **argv);
int run_tenant_command(int argc, char **argv); /* suspend, resume, archive, ... by argv[0] */
int run_label(int argc, char **argv);
int run_explain(int argc, char **argv);
int run_operation(int argc, char **argv);
int run_inventory(int argc, char **argv);
int run_alerts(int argc, char **argv);
int run_dlq(int argc, char **argv);
int run_events(int argc, char **argv);
int run_archive(int argc, char **argv);
int run_doctor(int argc, char **argv);
int run_migrate(int argc, char **argv);
int run_stripe(int argc, char **argv);
int run_mail(int argc, char **argv);
int run_completion(int argc, char **argv);
