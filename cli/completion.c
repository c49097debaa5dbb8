/* `tenantry completion bash|zsh`: made from the table of commands, so it knows what they know. */
#include "cli/cli.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void add_once(struct buf *out, const char *word, int length)
{
        auto_free char *framed = mem_printf(" %.*s ", length, word);

        if (strstr(out->data, framed) == NULL)
                buf_add_text(out, framed + 1);
}

/* The words of a command's arguments that are typed as they stand: --options, and sub-commands in lower case. */
static void add_words(struct buf *out, const char *arguments)
{
        buf_add_text(out, " ");
        const char *p = arguments;

        while (*p) {
                const char *start = p;

                while (*p && (isalnum((unsigned char)*p) || *p == '-'))
                        p++;
                if (p - start > 2 && strncmp(start, "--", 2) == 0)
                        add_once(out, start, (int)(p - start));
                else if (p - start > 1 && islower((unsigned char)*start) &&
                         (start == arguments || strchr(" |", start[-1])))
                        add_once(out, start, (int)(p - start));
                if (p == start)
                        p++;
        }
        buf_add_text(out, "--json --help");
}

/* What a tenant that is listed may be in; only `wait` knows deprovisioned. */
#define LISTED_STATES "requested provisioning ready attention archived"

static const char BASH_BEGIN[] = "# bash completion for tenantry: tenantry completion bash > "
                                 "/etc/bash_completion.d/tenantry\n"
                                 "_tenantry()\n{\n"
                                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
                                 "    COMPREPLY=()\n"
                                 "    if [ \"$prev\" = --state ]; then\n"
                                 "        words='" LISTED_STATES "'\n"
                                 "        [ \"${COMP_WORDS[1]}\" = wait ] && words+=' deprovisioned'\n"
                                 "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                                 "        return\n"
                                 "    fi\n";

static const char BASH_END[] = "    esac\n"
                               "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                               "}\n"
                               "complete -o default -F _tenantry tenantry\n";

static void print_bash(void)
{
        fputs(BASH_BEGIN, stdout);
        fputs("    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '", stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                printf("%s ", c->name);
        fputs("--help --version' -- \"$cur\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n", stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++) {
                auto_buf words = { 0 };

                add_words(&words, c->arguments);
                printf("    %s) words='%s' ;;\n", c->name, words.data + 1);
        }
        fputs(BASH_END, stdout);
}

/* Colons part name and description for _describe; quotes end the word. */
static void print_described(const struct command *command)
{
        printf("        '%s:", command->name);
        for (const char *p = command->summary; *p; p++)
                if (*p == '\'')
                        fputs("'\\''", stdout);
                else
                        putchar(*p);
        fputs("'\n", stdout);
}

static void print_zsh(void)
{
        fputs("#compdef tenantry\n# zsh completion: tenantry completion zsh > \"${fpath[1]}/_tenantry\"\n"
              "_tenantry() {\n    local -a commands words_here\n    commands=(\n",
              stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++)
                print_described(c);
        fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe 'command' commands\n        return\n    fi\n"
              "    if [[ ${words[CURRENT-1]} == --state ]]; then\n"
              "        compadd " LISTED_STATES "\n"
              "        [[ ${words[2]} == wait ]] && compadd deprovisioned\n        return\n    fi\n"
              "    case ${words[2]} in\n",
              stdout);
        for (const struct command *c = COMMANDS; c->name != NULL; c++) {
                auto_buf words = { 0 };

                add_words(&words, c->arguments);
                printf("        %s) words_here=(%s) ;;\n", c->name, words.data + 1);
        }
        fputs("    esac\n    compadd -- $words_here\n    _files\n}\n"
              "if [ \"$funcstack[1]\" = _tenantry ]; then _tenantry \"$@\"; else compdef _tenantry tenantry; fi\n",
              stdout);
}

int run_completion(int argc, char **argv)
{
        if (cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        if (strcmp(argv[1], "bash") == 0)
                print_bash();
        else if (strcmp(argv[1], "zsh") == 0)
                print_zsh();
        else
                return cli_usage("completion", "say `completion bash` or `completion zsh`");
        return EXIT_GOOD;
}
