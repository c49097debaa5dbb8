/* What a run is wished to be, from the options of `tenantry migrate run`: see migrate_options.h. */
#include "cli/migrate_options.h"

#include "cli/api.h"
#include "common/base/memory.h"

#include <stdlib.h>
#include <string.h>

int migrate_add_list(json_t *body, const char *field, const char *text, bool are_tenants)
{
        auto_free char *copy = mem_copy_text(text);
        char *rest = copy, *word;
        json_t *list;

        if (text == NULL)
                return EXIT_GOOD;
        list = json_array();
        json_object_set_new(body, field, list);
        while ((word = strsep(&rest, ",")) != NULL) {
                struct id id;
                int status = are_tenants ? api_find_tenant(word, &id) : EXIT_GOOD;

                if (status != EXIT_GOOD)
                        return status;
                if (json_array_append_new(list, json_string(are_tenants ? id.text : word)) < 0)
                        return cli_fail(EXIT_USAGE, "--%s is not valid UTF-8", field);
        }
        return EXIT_GOOD;
}

/* "1,10%,100%": numbers of tenants, and percentages of the fleet; or a label. */
static int options_add_waves(json_t *body, const char *text)
{
        auto_free char *copy = mem_copy_text(text);
        char *rest = copy, *word, *end;
        json_t *list = json_array();

        if (text == NULL)
                return json_decref(list), EXIT_GOOD;
        json_object_set_new(body, "waves", list);
        json_object_set_new(body, "strategy", json_string("waves"));
        while ((word = strsep(&rest, ",")) != NULL) {
                double number = strtod(word, &end);

                if (end != word && strcmp(end, "%") == 0)
                        json_array_append_new(list, json_pack("{s:f}", "percent", number));
                else if (end != word && *end == '\0' && number >= 1)
                        json_array_append_new(list, json_pack("{s:I}", "count", (json_int_t)number));
                else if (*word >= 'a' && *word <= 'z')
                        json_array_append_new(list, json_pack("{s:[s]}", "labels", word));
                else
                        return cli_usage("migrate",
                                         "--waves is a list of numbers, percentages and labels: 1,beta,10%,100%");
        }
        return EXIT_GOOD;
}

static int options_add_canary(json_t *body, const char *word)
{
        struct id id;
        int status = word ? api_find_tenant(word, &id) : EXIT_GOOD;

        if (word == NULL || status != EXIT_GOOD)
                return status;
        json_object_set_new(body, "canary", json_string(id.text));
        if (json_object_get(body, "strategy") == NULL)
                json_object_set_new(body, "strategy", json_string("canary"));
        return EXIT_GOOD;
}

static int options_add_number(json_t *body, const char *option, const char *field, const char *text)
{
        char *end = "";
        double number = text ? strtod(text, &end) : 0;

        if (text == NULL)
                return EXIT_GOOD;
        if (*text == '\0' || (*end != '\0' && strcmp(end, "%") != 0))
                return cli_fail(EXIT_USAGE, "--%s must be a number", option);
        if (*end == '%')
                json_object_set_new(body, field, json_real(number / 100));
        else if (number == (double)(json_int_t)number)
                json_object_set_new(body, field, json_integer((json_int_t)number));
        else
                json_object_set_new(body, field, json_real(number));
        return EXIT_GOOD;
}

void migrate_add_text(json_t *body, const char *field, const char *text)
{
        if (text != NULL)
                json_object_set_new(body, field, json_string(text));
}

static void options_add_flag(int *argc, char **argv, json_t *body, const char *option, const char *field)
{
        if (cli_flag(argc, argv, option))
                json_object_set_new(body, field, json_true());
}

int migrate_read_options(int *argc, char **argv, json_t *body)
{
        static const char *const texts[][2] = {
                { "target", "target" },
                { "strategy", "strategy" },
                { "soak", "soak" },
                { "on-halt", "on_halt" },
                { "forecast", "forecast" },
                { "lock-timeout", "lock_timeout" },
                { "statement-timeout", "statement_timeout" },
                { "reason", "reason" },
        };
        static const char *const numbers[][2] = { { "max-failures", "max_failures" },
                                                  { "max-failure-rate", "max_failure_rate" },
                                                  { "concurrency", "concurrency" } };
        const char *labels = cli_option(argc, argv, "labels"), *tenants = cli_option(argc, argv, "tenants");
        const char *canary = cli_option(argc, argv, "canary");
        const char *allow = cli_option(argc, argv, "allow"), *waves = cli_option(argc, argv, "waves");
        int status = EXIT_GOOD;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                migrate_add_text(body, texts[i][1], cli_option(argc, argv, texts[i][0]));
        for (size_t i = 0; status == EXIT_GOOD && i < ARRAY_SIZE(numbers); i++)
                status = options_add_number(body, numbers[i][0], numbers[i][1], cli_option(argc, argv, numbers[i][0]));
        options_add_flag(argc, argv, body, "out-of-order", "out_of_order");
        options_add_flag(argc, argv, body, "queue", "queue");
        if (status == EXIT_GOOD)
                status = options_add_canary(body, canary);
        if (status == EXIT_GOOD)
                status = options_add_waves(body, waves);
        if (status == EXIT_GOOD)
                status = migrate_add_list(body, "labels", labels, false);
        if (status == EXIT_GOOD)
                status = migrate_add_list(body, "allow", allow, false);
        return status == EXIT_GOOD ? migrate_add_list(body, "tenants", tenants, true) : status;
}
