/* Variables that are set but never read because they are misspelt: see config_check_names in config.h. */
#include "common/base/config.h"

#include "common/base/memory.h"
#include "common/base/spelling.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LIMIT 64

extern char **environ;

/* The name of a variable in capitals, like all of ours; false if it is too long to resemble one. */
static bool config_copy_name(const char *variable, char ret[NAME_LIMIT])
{
        size_t length = strcspn(variable, "=");

        if (length >= NAME_LIMIT)
                return false;
        for (size_t i = 0; i < length; i++)
                ret[i] = (char)toupper((unsigned char)variable[i]);
        ret[length] = '\0';
        return true;
}

static bool config_is_option(const char *name, const struct config_table *tables, size_t count)
{
        for (size_t t = 0; t < count; t++)
                for (size_t i = 0; i < tables[t].count; i++) {
                        const char *option = tables[t].options[i].name;
                        size_t length = strlen(option);

                        if (strncmp(name, option, length) == 0 &&
                            (name[length] == '\0' || strcmp(name + length, "_FILE") == 0))
                                return true;
                }
        return false;
}

static bool config_is_set(const char *option)
{
        auto_free char *file_name = mem_printf("%s_FILE", option);

        return getenv(option) != NULL || getenv(file_name) != NULL;
}

/* Also kafka_brokers, which differs only in case. */
static bool config_looks_like(const char *variable, const char *name, const char *option)
{
        auto_free char *file_name = mem_printf("%s_FILE", option);
        bool other = strncmp(variable, name, strlen(name)) != 0;

        return spelling_is_near(name, option) || spelling_is_near(name, file_name) ||
               (other && (strcmp(name, option) == 0 || strcmp(name, file_name) == 0));
}

char *config_lookalike(const char *option, const struct config_table *tables, size_t count)
{
        char name[NAME_LIMIT];

        for (char **variable = environ; *variable != NULL; variable++) {
                auto_free char *exact = mem_copy_bytes(*variable, strcspn(*variable, "="));

                if (!config_is_option(exact, tables, count) && config_copy_name(*variable, name) &&
                    config_looks_like(*variable, name, option))
                        return TAKE_PTR(exact);
        }
        return NULL;
}

int config_check_names(const struct config_table *tables, size_t count, struct err *err)
{
        for (size_t t = 0; t < count; t++)
                for (size_t i = 0; i < tables[t].count; i++) {
                        const char *option = tables[t].options[i].name;
                        auto_free char *found = config_is_set(option) ? NULL : config_lookalike(option, tables, count);

                        if (found != NULL)
                                return err_field(err, found, "%s: did you mean %s?", found, option);
                }
        return 0;
}
