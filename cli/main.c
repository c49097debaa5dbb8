/* The `tenantry` command: finds the subcommand, prints its help, gives its exit code. */
#include "cli/cli.h"
#include "cli/manual.h"
#include "common/base/config.h"
#include "common/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

bool cli_json;
volatile sig_atomic_t cli_interrupted;

static void on_interrupt(int number)
{
        (void)number;
        cli_interrupted = 1;
}

void cli_catch_interrupt(void)
{
        struct sigaction action = { .sa_handler = on_interrupt }; /* no SA_RESTART: waits end early */

        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
}

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

bool cli_optional(int *argc, char **argv, const char *name, const char **ret)
{
        size_t length = strlen(name);

        for (int i = 1; i < *argc; i++)
                if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, length) == 0 &&
                    argv[i][2 + length] == '=') {
                        *ret = argv[i] + 3 + length;
                        remove_word(argc, argv, i, 1);
                        return true;
                }
        return cli_flag(argc, argv, name);
}

int cli_duration(const char *option, const char *text, int64_t *ret_ms)
{
        const struct config_option described = { .name = option, .type = CONFIG_DURATION };
        auto_free char *seconds = strspn(text, "0123456789") == strlen(text) ? mem_printf("%ss", text) : NULL;
        struct err err;

        if (config_parse(&described, seconds ? seconds : text, ret_ms, &err) < 0)
                return cli_fail(EXIT_USAGE, "%s", err.message);
        return EXIT_GOOD;
}

int cli_count(const char *option, const char *text, int64_t *ret)
{
        const struct config_option described = { .name = option, .type = CONFIG_INTEGER, .min = 1, .max = INT32_MAX };
        struct err err;

        if (config_parse(&described, text, ret, &err) < 0)
                return cli_fail(EXIT_USAGE, "%s", err.message);
        return EXIT_GOOD;
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
                return cli_fail(EXIT_USAGE, "unexpected word \"%s\" (see: tenantry %s --help)", argv[words + 1],
                                argv[0]);
        return EXIT_GOOD;
}

const char *cli_setting(const char *name)
{
        const char *value = getenv(name);

        return value != NULL && *value != '\0' ? value : NULL;
}

const char *cli_environment(const char *name)
{
        const char *value = cli_setting(name);

        if (value == NULL)
                cli_fail(EXIT_USAGE, "%s is not set: export it (after `make demo`: . .run/env; see: tenantry --help)",
                         name);
        return value;
}

static void print_overview(FILE *out)
{
        fputs("tenantry: the control plane for software sold database-per-tenant\n\nUsage: tenantry COMMAND [--json] "
              "...\n\n",
              out);
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                fprintf(out, "  %-13s %s\n", c->name, c->summary);
        fputs(MANUAL_ENVIRONMENT MANUAL_EXIT_CODES
              "\n`tenantry COMMAND --help` tells more, with examples. `--json` gives "
              "every command's answer for machines.\n",
              out);
}

static void print_help(const struct command *command)
{
        printf("Usage: tenantry %s %s\n\n%c%s.\n\n%s" MANUAL_EXIT_CODES, command->name, command->arguments,
               command->summary[0] >= 'a' && command->summary[0] <= 'z' ? command->summary[0] - 32
                                                                        : command->summary[0],
               command->summary + 1, command->details);
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
        struct err err;
        int status;

        prctl(PR_SET_DUMPABLE, 0);
        if (config_load(NULL, NULL, 0, &err) < 0) /* TENANTRY_ENV_FILE */
                return cli_fail(EXIT_USAGE, "%s", err.message);
        cli_json = cli_flag(&argc, argv, "json");
        if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
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
        status = command->run(argc, argv);
        if (fflush(stdout) != 0 || ferror(stdout))
                return cli_fail(EXIT_FAILED, "standard output takes no more");
        return status;
}
