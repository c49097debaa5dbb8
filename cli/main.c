/* The `tenantry` command: finds the subcommand, prints its help, returns its exit code. */
#include "cli/cli.h"
#include "cli/manual.h"
#include "common/base/config.h"
#include "common/base/memory.h"
#include "common/base/spelling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define WORD_LIMIT 32 /* of a command's name */

bool cli_json;
enum output cli_output;
volatile sig_atomic_t cli_interrupted;
static const char *command_name = "";

static void cli_on_interrupt(int number)
{
        (void)number;
        cli_interrupted = 1;
}

void cli_catch_interrupt(void)
{
        struct sigaction action = { .sa_handler = cli_on_interrupt }; /* no SA_RESTART: waits end early */

        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
}

/* The contents of NAME_FILEs, kept for the life of the process. */
static struct kept {
        struct kept *next;
        char *name, *value;
} * kept;

const char *cli_setting(const char *name)
{
        const char *value = getenv(name);
        struct kept *found;
        struct err err;

        if (value != NULL && *value != '\0')
                return value;
        for (found = kept; found != NULL; found = found->next)
                if (strcmp(found->name, name) == 0)
                        return found->value;
        found = NEW(struct kept);
        found->name = mem_copy_text(name);
        found->next = kept;
        kept = found;
        if (config_read(name, &found->value, &err) < 0) { /* before anything is done without the value */
                cli_fail(EXIT_USAGE, "%s", err.message);
                if (cli_json)
                        cli_print_failure(EXIT_USAGE);
                exit(EXIT_USAGE);
        }
        return found->value;
}

/* The variables that .run/env sets once the demo is running. */
static bool cli_demo_exports(const char *name)
{
        static const char *const names[] = {
                "TENANTRY_URL",         "TENANTRY_TOKEN", "TENANTRY_APP_TOKEN",    "KAFKA_BROKERS",
                "CATALOG_DATABASE_URL", "CONTROL_KEYS",   "CATALOG_ADMIN_URL",     "TENANTRY_OPS_URL",
                "TENANT_DRIVER",        "TENANT_SERVERS", "SUPABASE_ACCESS_TOKEN", "SUPABASE_ORGANIZATION",
        };

        for (size_t i = 0; access(".run/env", F_OK) == 0 && i < ARRAY_SIZE(names); i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

const char *cli_environment(const char *name)
{
        const char *value = cli_setting(name);

        if (value == NULL)
                cli_fail(EXIT_USAGE, "%s is not set%s (see: tenantry %s --help)", name,
                         cli_demo_exports(name) ? ": export it with: . .run/env" : "", command_name);
        return value;
}

static void cli_print_overview(FILE *out)
{
        fputs("tenantry: the control plane for software sold database-per-tenant\n\nUsage: tenantry COMMAND [-o "
              "FORMAT] "
              "... | help COMMAND | --version\n\n",
              out);
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                fprintf(out, "  %-13s %s\n", c->name, c->summary);
        fputs(MANUAL_ENVIRONMENT MANUAL_EXIT_CODES
              "\n`tenantry COMMAND --help` shows more, with examples. `-o json` and `-o yaml` "
              "give every command's answer for machines.\n",
              out);
}

static void cli_print_help(const struct command *command)
{
        char first = command->summary[0];

        printf("Usage: tenantry %s%s%s\n\n%c%s.\n\n%s" MANUAL_COMMON "%s" MANUAL_EXIT_CODES, command->name,
               *command->arguments ? " " : "", command->arguments, first >= 'a' && first <= 'z' ? first - 32 : first,
               command->summary + 1, command->details, command->listed ? MANUAL_LISTED : "");
}

const struct command *cli_find_command(const char *name)
{
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                if (strcmp(c->name, name) == 0)
                        return c;
        return NULL;
}

static int cli_no_such_command(const char *word)
{
        const char *nearest = NULL;
        size_t least = WORD_LIMIT;

        for (const struct command *c = COMMANDS; c->name != NULL; c++) {
                size_t steps = spelling_distance(word, c->name);

                if (steps < least && steps <= 2 && steps * 2 < strlen(c->name)) {
                        nearest = c->name;
                        least = steps;
                }
        }
        if (nearest != NULL)
                return cli_fail(EXIT_USAGE, "there is no command %s; did you mean %s?", word, nearest);
        return cli_fail(EXIT_USAGE, "there is no command %s (see: tenantry --help)", word);
}

/* `tenantry help COMMAND` */
static int cli_help_with(const char *word)
{
        const struct command *command = cli_find_command(word);

        if (command == NULL)
                return cli_no_such_command(word);
        cli_print_help(command);
        return EXIT_GOOD;
}

/* Whether help is requested; then no command is run. */
static bool cli_wants_overview(int argc, char **argv)
{
        bool help = argc >= 2 && strcmp(argv[1], "help") == 0;

        return argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (help && argc < 3);
}

static bool cli_wants_help(int argc, char **argv)
{
        int end = cli_options_end(argc, argv);

        for (int i = 1; i < end; i++)
                if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
                        return true;
        return false;
}

static int cli_run_command(int argc, char **argv)
{
        const struct command *command = cli_find_command(argv[0]);
        int status;

        if (command == NULL)
                return cli_no_such_command(argv[0]);
        command_name = command->name;
        if (cli_wants_help(argc, argv)) {
                cli_print_help(command);
                return EXIT_GOOD;
        }
        if (!command->listed && (cli_output == OUTPUT_NAME || cli_output == OUTPUT_WIDE))
                return cli_fail(EXIT_USAGE, "%s supports only -o json and -o yaml (see: tenantry %s --help)",
                                command->name, command->name);
        status = cli_check_options(command, argc, argv);
        return status == EXIT_GOOD ? command->run(argc, argv) : status;
}

static int cli_run(int argc, char **argv)
{
        struct err err;

        if (config_load(NULL, NULL, 0, &err) < 0) /* TENANTRY_ENV_FILE */
                return cli_fail(EXIT_USAGE, "%s", err.message);
        if (argc < 2 && cli_json)
                return cli_fail(EXIT_USAGE, "a command is missing (see: tenantry --help)");
        if (cli_wants_overview(argc, argv)) {
                cli_print_overview(argc < 2 ? stderr : stdout);
                return argc < 2 ? EXIT_USAGE : EXIT_GOOD;
        }
        if (strcmp(argv[1], "help") == 0)
                return cli_help_with(argv[2]);
        if (strcmp(argv[1], "--version") == 0) {
                puts("tenantry " TENANTRY_VERSION);
                return EXIT_GOOD;
        }
        return cli_run_command(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
        int status;

        prctl(PR_SET_DUMPABLE, 0);
        status = cli_take_output(&argc, argv);
        if (status == EXIT_GOOD)
                status = cli_run(argc, argv);
        cli_print_failure(status);
        if (cli_interrupted)
                clearerr(stdout); /* the signal may have interrupted a write; that is not our failure */
        if (fflush(stdout) != 0 || ferror(stdout))
                return cli_fail(EXIT_FAILED, "cannot write to standard output");
        return status;
}
