/* The `tenantry` command: finds the subcommand, prints its help, gives its exit code. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

bool cli_json;

static void remove_word(int *argc, char **argv, int at, int count)
{
        for (int i = at; i + count <= *argc; i++)
                argv[i] = argv[i + count];
        *argc -= count;
}

const char *cli_option(int *argc, char **argv, const char *name)
{
        size_t length = strlen(name);

        for (int i = 1; i < *argc; i++) {
                const char *word = argv[i], *value;

                if (strncmp(word, "--", 2) != 0 || strncmp(word + 2, name, length) != 0)
                        continue;
                if (word[2 + length] == '=') {
                        value = word + 3 + length;
                        remove_word(argc, argv, i, 1);
                        return value;
                }
                if (word[2 + length] == '\0' && i + 1 < *argc) {
                        value = argv[i + 1];
                        remove_word(argc, argv, i, 2);
                        return value;
                }
        }
        return NULL;
}

bool cli_flag(int *argc, char **argv, const char *name)
{
        for (int i = 1; i < *argc; i++)
                if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0) {
                        remove_word(argc, argv, i, 1);
                        return true;
                }
        return false;
}

int cli_fail(enum exit_code code, const char *format, ...)
{
        va_list args;

        fputs("tenantry: ", stderr);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
        return code;
}

int cli_usage(const char *command, const char *complaint)
{
        return cli_fail(EXIT_USAGE, "%s (see: tenantry %s --help)", complaint, command);
}

int cli_expect(int argc, char **argv, int words)
{
        if (argc - 1 < words)
                return cli_usage(argv[0], "something is missing");
        if (argc - 1 > words)
                return cli_fail(EXIT_USAGE, "unexpected word \"%s\" (see: tenantry %s --help)", argv[words + 1], argv[0]);
        return EXIT_GOOD;
}

const char *cli_environment(const char *name)
{
        const char *value = getenv(name);

        if (value == NULL || *value == '\0') {
                cli_fail(EXIT_USAGE, "%s is not set", name);
                return NULL;
        }
        return value;
}

static void print_overview(FILE *out)
{
        fputs("tenantry: the control plane for software sold database-per-tenant\n\nUsage: tenantry COMMAND [--json] ...\n\n",
              out);
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                fprintf(out, "  %-13s %s\n", c->name, c->summary);
        fputs("\n`tenantry COMMAND --help` tells more. Commands talk to TENANTRY_URL with TENANTRY_TOKEN.\n"
              "Exit codes: 0 done, 1 failed, 2 wrong call, 3 not found, 4 refused, 5 not in time, 6 cannot be reached.\n",
              out);
}

static void print_help(const struct command *command)
{
        printf("Usage: tenantry %s %s\n\n%s\n\n%s", command->name, command->arguments, command->summary, command->details);
}

static const struct command *find(const char *name)
{
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                if (strcmp(c->name, name) == 0)
                        return c;
        return NULL;
}

int main(int argc, char **argv)
{
        const struct command *command;

        prctl(PR_SET_DUMPABLE, 0);
        cli_json = cli_flag(&argc, argv, "json");
        if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
                print_overview(argc < 2 ? stderr : stdout);
                return argc < 2 ? EXIT_USAGE : EXIT_GOOD;
        }
        if (strcmp(argv[1], "--version") == 0) {
                puts("tenantry " TENANTRY_VERSION);
                return EXIT_GOOD;
        }
        command = find(argv[1]);
        if (command == NULL)
                return cli_fail(EXIT_USAGE, "there is no command %s (see: tenantry --help)", argv[1]);
        argc--;
        argv++;
        if (cli_flag(&argc, argv, "help")) {
                print_help(command);
                return EXIT_GOOD;
        }
        return command->run(argc, argv);
}
