/* Parses the command line: removes options from argv, and reads their values. */
#include "cli/cli.h"
#include "common/base/config.h"
#include "common/base/memory.h"

#include <string.h>

static void word_remove(int *argc, char **argv, int at, int count)
{
        for (int i = at; i + count <= *argc; i++)
                argv[i] = argv[i + count];
        *argc -= count;
}

int cli_options_end(int argc, char **argv)
{
        for (int i = 1; i < argc; i++)
                if (strcmp(argv[i], "--") == 0)
                        return i;
        return argc;
}

/* What follows --name in a word: "" or "=VALUE"; NULL if it is another word. */
static const char *word_after_name(const char *word, const char *name)
{
        size_t length = strlen(name);

        if (strncmp(word, "--", 2) != 0 || strncmp(word + 2, name, length) != 0)
                return NULL;
        return word[2 + length] == '\0' || word[2 + length] == '=' ? word + 2 + length : NULL;
}

const char *cli_option(int *argc, char **argv, const char *name)
{
        int end = cli_options_end(*argc, argv);

        for (int i = 1; i < end; i++) {
                const char *rest = word_after_name(argv[i], name), *value;

                if (rest == NULL || (*rest == '\0' && i + 1 == *argc))
                        continue;
                value = *rest == '=' ? rest + 1 : argv[i + 1];
                word_remove(argc, argv, i, *rest == '=' ? 1 : 2);
                return value;
        }
        return NULL;
}

bool cli_flag(int *argc, char **argv, const char *name)
{
        int end = cli_options_end(*argc, argv);

        for (int i = 1; i < end; i++) {
                const char *rest = word_after_name(argv[i], name);

                if (rest != NULL && *rest == '\0') {
                        word_remove(argc, argv, i, 1);
                        return true;
                }
        }
        return false;
}

bool cli_optional(int *argc, char **argv, const char *name, const char **ret)
{
        int end = cli_options_end(*argc, argv);

        for (int i = 1; i < end; i++) {
                const char *rest = word_after_name(argv[i], name);

                if (rest == NULL)
                        continue;
                if (*rest == '=')
                        *ret = rest + 1;
                word_remove(argc, argv, i, 1);
                return true;
        }
        return false;
}

static int words_set_output(const char *format)
{
        static const char *const formats[] = { "text", "json", "yaml", "name", "wide" };

        for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
                if (strcmp(formats[i], format) == 0) {
                        cli_output = (enum output)i;
                        cli_json = cli_output == OUTPUT_JSON || cli_output == OUTPUT_YAML;
                        return EXIT_GOOD;
                }
        return cli_fail(EXIT_USAGE, "-o must be json, yaml, name, wide or text, not %s (see: tenantry --help)", format);
}

/* Whether words of this command may begin with one hyphen: `label TENANT -eu`. */
static bool words_may_be_negative(const char *command)
{
        const struct command *found = cli_find_command(command);

        return found != NULL && strstr(found->arguments, "-LABEL") != NULL;
}

/* What follows -o or --output in a word: "" or its value; NULL if it is another word. joined: -ojson, too. */
static const char *word_after_output(const char *word, bool joined)
{
        if (strncmp(word, "-o", 2) == 0 && (word[2] == '\0' || word[2] == '='))
                return word + 2 + (word[2] == '=');
        if (joined && strncmp(word, "-o", 2) == 0 && strspn(word + 2, "abcdefghijklmnopqrstuvwxyz") == strlen(word + 2))
                return word + 2;
        word = word_after_name(word, "output");
        return word != NULL && *word == '=' ? word + 1 : word;
}

int cli_take_output(int *argc, char **argv)
{
        int status = EXIT_GOOD;

        if (cli_flag(argc, argv, "json"))
                words_set_output("json");
        for (int i = 1; i < cli_options_end(*argc, argv) && status == EXIT_GOOD;) {
                bool negative = i > 1 && words_may_be_negative(argv[1]);
                const char *value = word_after_output(argv[i], !negative);

                if (value == NULL) {
                        i++;
                        continue;
                }
                if (*value == '\0' && i + 1 == *argc)
                        return cli_fail(EXIT_USAGE, "-o needs a value: json, yaml, name, wide or text");
                status = words_set_output(*value ? value : argv[i + 1]);
                word_remove(argc, argv, i, *value ? 1 : 2);
        }
        return status;
}

/* Whether a command's arguments have this --option with a value: "--reason TEXT", but not "--all]" or "--wait[=". */
static bool words_take_value(const char *arguments, const char *option)
{
        size_t length = strlen(option);

        for (const char *p = strstr(arguments, option); p != NULL; p = strstr(p + 1, option))
                if (p[length] == ' ' && strchr("[|", p[length + 1]) == NULL)
                        return true;
        return false;
}

/* "--colour" or "-c", without what may follow: not a possible name of a file or a tenant. */
static bool word_is_option(const char *word)
{
        return word[0] == '-' && (word[1] == '-' || (word[1] != '\0' && word[2] == '\0')) && word[1] != '\0';
}

static bool words_take_option(const char *arguments, const char *option)
{
        size_t length = strcspn(option, "=");

        for (const char *p = strstr(arguments, "--"); p != NULL; p = strstr(p + 2, "--"))
                if (strncmp(p, option, length) == 0 && strchr(" []=|", p[length]) != NULL)
                        return true;
        return false;
}

int cli_check_options(const struct command *command, int argc, char **argv)
{
        bool negative = words_may_be_negative(command->name);
        int end = cli_options_end(argc, argv);

        for (int i = 1; i < end; i++) {
                if (negative && argv[i][0] == '-' && argv[i][1] != '-')
                        continue;
                if (word_is_option(argv[i]) && !words_take_option(command->arguments, argv[i]))
                        return cli_fail(EXIT_USAGE, "unknown option %.*s (see: tenantry %s --help)",
                                        (int)strcspn(argv[i], "="), argv[i], command->name);
                if (strncmp(argv[i], "--", 2) != 0 || !words_take_value(command->arguments, argv[i]))
                        continue;
                if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
                        return cli_fail(EXIT_USAGE, "%s needs a value (see: tenantry %s --help)", argv[i],
                                        command->name);
                i++;
        }
        return EXIT_GOOD;
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

int cli_expect(int argc, char **argv, int words)
{
        const struct command *command = cli_find_command(argv[0]);

        if (argc - 1 < words)
                return cli_fail(EXIT_USAGE, "usage: tenantry %s %s", command->name, command->arguments);
        if (argc - 1 > words)
                return cli_fail(EXIT_USAGE, "unexpected word \"%s\" (see: tenantry %s --help)", argv[words + 1],
                                argv[0]);
        return EXIT_GOOD;
}

void cli_lower_case(char *word)
{
        for (; *word; word++)
                *word = (char)(*word >= 'A' && *word <= 'Z' ? *word + 32 : *word);
}
