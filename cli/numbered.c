/* One action on each of several numbered objects: see numbered.h. */
#include "cli/numbered.h"

#include "cli/api.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

char *numbered_path(const struct numbered_action *action, const char *number)
{
        auto_free char *complaint = NULL;

        if (*number != '\0' && strlen(number) < 19 && strspn(number, "0123456789") == strlen(number))
                return mem_printf("%s/%s%s", action->path, number, action->end);
        complaint = mem_printf("the id of a %s is a number", action->what);
        cli_usage(action->command, complaint);
        return NULL;
}

static int numbered_act_on(const struct numbered_action *action, const char *number)
{
        auto_free char *path = numbered_path(action, number);
        struct api_answer answer;
        int status;

        if (path == NULL)
                return EXIT_USAGE;
        status = api_send(&(struct api_request){ .method = action->method, .path = path }, &answer);
        if (status != EXIT_GOOD)
                api_complain(&answer, status);
        api_answer_release(&answer);
        return status;
}

int numbered_act(const struct numbered_action *action, int argc, char **argv)
{
        auto_json *results = json_array(), *whole = NULL;
        auto_free char *complaint =
                mem_printf("which %s? use `%s %s ID [ID...]`", action->what, action->command, action->verb);
        int worst = argc < 3 ? cli_usage(action->command, complaint) : EXIT_GOOD;

        for (int i = 2; i < argc; i++) {
                int status = numbered_act_on(action, argv[i]);

                json_array_append_new(results,
                                      json_pack("{s:s, s:b}", "id", argv[i], action->flag, status == EXIT_GOOD));
                if (status == EXIT_GOOD && !cli_json)
                        printf("%s %s\n", argv[i], action->done);
                if (worst == EXIT_GOOD)
                        worst = status;
        }
        whole = json_pack("{s:O}", action->list, results);
        if (cli_json && argc >= 3)
                cli_print_answer(whole);
        return worst;
}
