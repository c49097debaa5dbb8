/* Which run a word of the command line means: see migrate.h. */
#include "cli/api.h"
#include "cli/migrate.h"
#include "common/base/memory.h"

#include <string.h>

/* A run among those of one member of the status. */
static const json_t *find_run_among(const json_t *runs, const char *word)
{
        json_t *run;
        size_t i;

        json_array_foreach (runs, i, run) {
                auto_free char *number = mem_printf("%lld", (long long)json_number(run, "number", 0));

                if (strcmp(number, word) == 0 ||
                    (strlen(word) >= 4 && strncmp(json_text(run, "run_id"), word, strlen(word)) == 0))
                        return run;
        }
        return NULL;
}

int migrate_find_run(const char *word, struct id *ret)
{
        auto_json *status = NULL, *active = json_array();
        const json_t *found;
        int code;

        if (word != NULL && id_is_valid(word)) {
                memcpy(ret->text, word, sizeof(ret->text));
                return EXIT_GOOD;
        }
        code = api_get("/api/admin/migrations/status", &status);
        if (code != EXIT_GOOD)
                return code;
        if (json_is_object(json_object_get(status, "active")))
                json_array_append(active, json_object_get(status, "active"));
        if (word == NULL) {
                found = json_array_get(active, 0) ?: json_array_get(json_object_get(status, "ended"), 0);
                found = found ?: json_array_get(json_object_get(status, "queued"), 0);
        } else {
                found = find_run_among(active, word) ?: find_run_among(json_object_get(status, "queued"), word);
                found = found ?: find_run_among(json_object_get(status, "ended"), word);
        }
        if (found == NULL)
                return cli_fail(EXIT_NOT_FOUND, "there is no such run (see: tenantry migrate status)");
        memcpy(ret->text, json_text(found, "run_id"), sizeof(ret->text));
        return EXIT_GOOD;
}
