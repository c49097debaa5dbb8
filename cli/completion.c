/* `tenantry completion bash|zsh|fish`: generated from the table of commands, so it is always complete; and `completion
 * tenants`, from which these scripts get subdomains. */
#include "cli/api.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define TENANTS_OFFERED  "100"
#define OFFER_TIMEOUT_MS 2000 /* somebody has pressed a key and is waiting */

static void completion_add_once(struct buf *out, const char *word, int length)
{
        auto_free char *framed = mem_printf(" %.*s ", length, word);

        if (strstr(out->data, framed) == NULL)
                buf_add_text(out, framed + 1);
}

/* The words of a command's arguments that are typed literally: --options, and subcommands in lower case. */
static void completion_add_words(struct buf *out, const char *arguments)
{
        buf_add_text(out, " ");
        const char *p = arguments;

        while (*p) {
                const char *start = p;

                while (*p && (isalnum((unsigned char)*p) || *p == '-'))
                        p++;
                if (p - start > 2 && strncmp(start, "--", 2) == 0)
                        completion_add_once(out, start, (int)(p - start));
                else if (p - start > 1 && islower((unsigned char)*start) &&
                         (start == arguments || strchr(" |", start[-1])))
                        completion_add_once(out, start, (int)(p - start));
                if (p == start)
                        p++;
        }
        buf_add_text(out, "--json --help");
}

/* Whether a positional argument is a tenant; the value of --tenant is handled separately. */
static bool completion_takes_tenant(const char *arguments)
{
        static const char option[] = "--tenant ";
        const size_t length = strlen(option);

        for (const char *p = strstr(arguments, "TENANT"); p != NULL; p = strstr(p + 1, "TENANT"))
                if ((size_t)(p - arguments) < length || strncmp(p - length, option, length) != 0)
                        return true;
        return strstr(arguments, "|SUBDOMAIN") != NULL;
}

/* The values of --state; the last entry is for all other commands. */
#define LISTED_STATES "requested provisioning ready attention archived"

static const struct {
        const char *command, *states;
} STATES[] = {
        { .command = "operation", .states = "accepted succeeded failed superseded rejected" },
        { .command = "wait", .states = LISTED_STATES " deprovisioned" },
        { .command = "*", .states = LISTED_STATES },
};

static const char BASH_BEGIN[] = "# bash completion for tenantry: tenantry completion bash > "
                                 "/etc/bash_completion.d/tenantry\n"
                                 "_tenantry_tenants()\n{\n"
                                 "    \"${COMP_WORDS[0]}\" completion tenants \"$1\" 2>/dev/null\n}\n"
                                 "_tenantry()\n{\n"
                                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
                                 "    COMPREPLY=()\n"
                                 "    if [ \"$prev\" = --tenant ]; then\n"
                                 "        COMPREPLY=($(compgen -W \"$(_tenantry_tenants \"$cur\")\" -- \"$cur\"))\n"
                                 "        return\n"
                                 "    fi\n"
                                 "    if [ \"$prev\" = --state ]; then\n"
                                 "        case ${COMP_WORDS[1]} in\n";

static const char BASH_STATES_END[] = "        esac\n"
                                      "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                                      "        return\n"
                                      "    fi\n";

static const char BASH_END[] = "    esac\n"
                               "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                               "}\n"
                               "complete -o default -F _tenantry tenantry\n";

/* The gateway, which may be far away, is not queried while an option is being typed. */
#define BASH_TENANTS "[[ $cur == -* ]] || words+=\" $(_tenantry_tenants \"$cur\")\" "

static void completion_print_bash(void)
{
        fputs(BASH_BEGIN, stdout);
        for (size_t i = 0; i < ARRAY_SIZE(STATES); i++)
                printf("        %s) words='%s' ;;\n", STATES[i].command, STATES[i].states);
        fputs(BASH_STATES_END, stdout);
        fputs("    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '", stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                printf("%s ", c->name);
        fputs("--help --version' -- \"$cur\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n", stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++) {
                auto_buf words = { 0 };

                completion_add_words(&words, c->arguments);
                printf("    %s) words='%s'%s;;\n", c->name, words.data + 1,
                       completion_takes_tenant(c->arguments) ? "; " BASH_TENANTS : " ");
        }
        fputs(BASH_END, stdout);
}

/* Colons separate name and description for _describe; quotes end the word. */
static void completion_print_described(const struct command *command)
{
        printf("        '%s:", command->name);
        for (const char *p = command->summary; *p; p++)
                if (*p == '\'')
                        fputs("'\\''", stdout);
                else
                        putchar(*p);
        fputs("'\n", stdout);
}

#define ZSH_TENANTS "[[ $PREFIX == -* ]] || words_here+=(${(f)\"$(_tenantry_tenants)\"}) "

static void completion_print_zsh(void)
{
        fputs("#compdef tenantry\n# zsh completion: tenantry completion zsh > \"${fpath[1]}/_tenantry\"\n"
              "_tenantry_tenants() {\n    ${words[1]} completion tenants \"$PREFIX\" 2>/dev/null\n}\n"
              "_tenantry() {\n    local -a commands words_here\n    commands=(\n",
              stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                completion_print_described(c);
        fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe 'command' commands\n        return\n    fi\n"
              "    if [[ ${words[CURRENT-1]} == --tenant ]]; then\n"
              "        compadd -- ${(f)\"$(_tenantry_tenants)\"}\n        return\n    fi\n"
              "    if [[ ${words[CURRENT-1]} == --state ]]; then\n        case ${words[2]} in\n",
              stdout);
        for (size_t i = 0; i < ARRAY_SIZE(STATES); i++)
                printf("            %s) compadd %s ;;\n", STATES[i].command, STATES[i].states);
        fputs("        esac\n        return\n    fi\n    case ${words[2]} in\n", stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++) {
                auto_buf words = { 0 };

                completion_add_words(&words, c->arguments);
                printf("        %s) words_here=(%s)%s;;\n", c->name, words.data + 1,
                       completion_takes_tenant(c->arguments) ? "; " ZSH_TENANTS : " ");
        }
        fputs("    esac\n    compadd -- $words_here\n    _files\n}\n"
              "if [ \"$funcstack[1]\" = _tenantry ]; then _tenantry \"$@\"; else compdef _tenantry tenantry; fi\n",
              stdout);
}

static const char FISH_BEGIN[] =
        "# fish completion for tenantry: tenantry completion fish > ~/.config/fish/completions/tenantry.fish\n"
        "function __tenantry_is\n"
        "    set -l typed (commandline -opc)\n"
        "    test (count $typed) -ge 2; and contains -- $typed[2] $argv\n"
        "end\n"
        "function __tenantry_tenants\n"
        "    set -l typed (commandline -opc)\n"
        "    $typed[1] completion tenants (commandline -ct) 2>/dev/null\n"
        "end\n"
        "complete -c tenantry -n __fish_use_subcommand -f -l help -l version\n"
        "complete -c tenantry -l tenant -n '__tenantry_is operation events' -x -a '(__tenantry_tenants)'\n";

static void completion_print_fish_words(const struct command *command)
{
        auto_buf words = { 0 };
        char *rest, *word;

        completion_add_words(&words, command->arguments);
        rest = words.data;
        while ((word = strsep(&rest, " ")) != NULL)
                if (strncmp(word, "--", 2) == 0 && strcmp(word, "--state") != 0 && strcmp(word, "--tenant") != 0)
                        printf("complete -c tenantry -n '__tenantry_is %s' -l %s\n", command->name, word + 2);
                else if (strncmp(word, "--", 2) != 0 && *word != '\0')
                        printf("complete -c tenantry -n '__tenantry_is %s' -a %s\n", command->name, word);
        if (completion_takes_tenant(command->arguments))
                printf("complete -c tenantry -n '__tenantry_is %s' -f -a '(__tenantry_tenants)'\n", command->name);
}

static void completion_print_fish(void)
{
        fputs(FISH_BEGIN, stdout);
        for (size_t i = 0; i + 1 < ARRAY_SIZE(STATES); i++)
                printf("complete -c tenantry -n '__tenantry_is %s' -l state -x -a '%s'\n", STATES[i].command,
                       STATES[i].states);
        printf("complete -c tenantry -n '__tenantry_is tenants' -l state -x -a '" LISTED_STATES "'\n");
        for (const struct command *c = COMMANDS; c->name != NULL; c++) {
                printf("complete -c tenantry -n __fish_use_subcommand -f -a %s -d '", c->name);
                for (const char *p = c->summary; *p; p++)
                        printf("%s%c", *p == '\'' ? "\\" : "", *p);
                puts("'");
                completion_print_fish_words(c);
        }
}

/* Subdomains that begin with this, one per line; nothing if the gateway does not answer at once. Only plain words are
 * printed, since the shell would expand anything else. */
static int completion_print_tenants(const char *beginning)
{
        auto_buf path = { 0 };
        struct api_answer answer;
        const json_t *tenant;
        int status;
        size_t i;

        buf_add_text(&path, "/api/tenants?sort=subdomain&limit=" TENANTS_OFFERED);
        api_add_query(&path, "begins", beginning);
        cli_keep_silent(true);
        status = api_send(&(struct api_request){ .method = "GET", .path = path.data, .timeout_ms = OFFER_TIMEOUT_MS },
                          &answer);
        json_array_foreach (json_object_get(answer.body, "tenants"), i, tenant) {
                const char *slug = json_text(tenant, "slug");

                if (slug != NULL && strspn(slug, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(slug))
                        puts(slug);
        }
        api_answer_release(&answer);
        return status;
}

int run_completion(int argc, char **argv)
{
        bool tenants = argc >= 2 && strcmp(argv[1], "tenants") == 0;

        if (cli_expect(argc, argv, tenants && argc > 2 ? 2 : 1) != EXIT_GOOD)
                return EXIT_USAGE;
        if (tenants)
                return completion_print_tenants(argc > 2 ? argv[2] : NULL);
        if (strcmp(argv[1], "bash") == 0)
                completion_print_bash();
        else if (strcmp(argv[1], "zsh") == 0)
                completion_print_zsh();
        else if (strcmp(argv[1], "fish") == 0)
                completion_print_fish();
        else
                return cli_usage("completion", "use `completion bash`, `completion zsh` or `completion fish`");
        return EXIT_GOOD;
}
