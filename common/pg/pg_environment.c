/* A target as the environment of PostgreSQL's own programs: see pg.h. */
#include "common/base/memory.h"
#include "common/pg/pg_private.h"

#include <string.h>

static const char *environment_value_of(const struct pg_target *target, const PQconninfoOption *option)
{
        const struct {
                const char *keyword, *value;
        } told[] = {
                { .keyword = "host", .value = target->host },
                { .keyword = "port", .value = target->port },
                { .keyword = "dbname", .value = target->dbname },
                { .keyword = "user", .value = target->user },
                { .keyword = "password", .value = target->password },
                { .keyword = "application_name", .value = target->application_name },
                { .keyword = "sslmode", .value = target->sslmode },
        };

        for (size_t i = 0; i < ARRAY_SIZE(told); i++)
                if (told[i].value != NULL && strcmp(told[i].keyword, option->keyword) == 0)
                        return told[i].value;
        return option->val ? option->val : getenv(option->envvar);
}

char **pg_environment(const struct pg_target *target)
{
        PQconninfoOption *options = PQconninfoParse(target->url ? target->url : "", NULL);
        char **environment;
        size_t count = 0;

        for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
                count++;
        environment = mem_alloc(count + 1, sizeof(environment[0]));
        count = 0;
        for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
                const char *value = o->envvar ? environment_value_of(target, o) : NULL;

                if (value != NULL)
                        environment[count++] = mem_printf("%s=%s", o->envvar, value);
        }
        PQconninfoFree(options);
        return environment;
}

void pg_free_environment(char **environment)
{
        for (size_t i = 0; environment != NULL && environment[i] != NULL; i++)
                mem_free_secret(environment[i]);
        free(environment);
}
