/* `tenantry label TENANT +canary -eu`: gives a tenant labels, and takes them away. */
#include "cli/tenant_command.h"
#include "cli/wait.h"

#include <string.h>

/* "+canary" or "-eu": adds the label to the list that its sign stands for. */
static int label_read(const char *word, json_t *body)
{
        const char *field = *word == '+' ? "add" : "remove";
        json_t *list = json_object_get(body, field);

        if ((*word != '+' && *word != '-') || word[1] == '\0')
                return cli_usage("label", "a label has + before it to be added, or - to be removed");
        if (list == NULL) {
                list = json_array();
                json_object_set_new(body, field, list);
        }
        if (json_array_append_new(list, json_string(word + 1)) < 0)
                return cli_fail(EXIT_USAGE, "a label is not valid UTF-8");
        return EXIT_GOOD;
}

int run_label(int argc, char **argv)
{
        const char *reason = cli_option(&argc, argv, "reason");
        auto_json *body = json_object();
        int64_t wait_ms;
        int end;

        if (wait_option(&argc, argv, &wait_ms) != EXIT_GOOD || tenant_command_add(body, "reason", reason) != EXIT_GOOD)
                return EXIT_USAGE;
        end = cli_options_end(argc, argv);
        for (int i = 2; i < argc; i++)
                if (i != end && label_read(argv[i], body) != EXIT_GOOD)
                        return EXIT_USAGE;
        if (argc < 2 || strchr("+-", argv[1][0]) != NULL)
                return cli_usage("label", "name the tenant first, and then its labels");
        if (json_object_get(body, "add") == NULL && json_object_get(body, "remove") == NULL)
                return cli_usage("label", "name a label, with + before it to be added, or - to be removed");
        return tenant_command_send("label", argv[1], body, wait_ms);
}
