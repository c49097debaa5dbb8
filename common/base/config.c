/* Configuration from one declared table: see config.h. */
#include "common/base/config.h"

#include "common/base/buf.h"
#include "common/base/duration.h"
#include "common/base/memory.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_FILE_LIMIT (1024 * 1024)
#define NAME_CHARACTERS   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

static int config_parse_integer(const struct config_option *option, const char *text, int64_t *ret, struct err *err)
{
        char *end;
        int64_t value;

        errno = 0;
        value = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0')
                return err_field(err, option->name, "%s: \"%.40s\" is not a whole number", option->name, text);
        if (option->max != 0 && (value < option->min || value > option->max))
                return err_field(err, option->name, "%s: %lld is not between %lld and %lld", option->name,
                                 (long long)value, (long long)option->min, (long long)option->max);
        *ret = value;
        return 0;
}

static int config_parse_duration(const struct config_option *option, const char *text, int64_t *ret, struct err *err)
{
        if (duration_parse(option->name, text, ret, err) < 0)
                return -ERR_INPUT;
        if (option->max == 0 || (*ret >= option->min && *ret <= option->max))
                return 0;
        return err_field(err, option->name, "%s: %.40s is not between %lld ms and %lld ms", option->name, text,
                         (long long)option->min, (long long)option->max);
}

static int config_parse_bool(const struct config_option *option, const char *text, bool *ret, struct err *err)
{
        static const char *const yes[] = { "1", "true", "on", "yes" }, *const no[] = { "0", "false", "off", "no", "" };

        for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
                if (strcasecmp(text, yes[i]) == 0)
                        return *ret = true, 0;
        for (size_t i = 0; i < ARRAY_SIZE(no); i++)
                if (strcasecmp(text, no[i]) == 0)
                        return *ret = false, 0;
        return err_field(err, option->name, "%s: \"%.40s\" is neither true nor false", option->name, text);
}

int config_parse(const struct config_option *option, const char *text, void *target, struct err *err)
{
        void *field = (char *)target + option->offset;

        switch (option->type) {
        case CONFIG_TEXT:
                *(char **)field = mem_copy_text(text);
                return 0;
        case CONFIG_INTEGER:
                return config_parse_integer(option, text, field, err);
        case CONFIG_DURATION:
                return config_parse_duration(option, text, field, err);
        case CONFIG_BOOL:
                return config_parse_bool(option, text, field, err);
        }
        return err_set(err, ERR_INTERNAL, "config_type", "%s has no known type", option->name);
}

static int config_read_file(const char *path, char **ret, struct err *err)
{
        FILE *in = fopen(path, "re");
        auto_buf text = { 0 };
        char chunk[4096];
        size_t n;

        if (in == NULL)
                return err_set(err, ERR_INPUT, "config_file", "cannot read %s: %s", path, strerror(errno));
        while ((n = fread(chunk, 1, sizeof(chunk), in)) > 0 && text.length <= CONFIG_FILE_LIMIT)
                buf_add(&text, chunk, n);
        fclose(in);
        if (text.length > CONFIG_FILE_LIMIT)
                return err_set(err, ERR_INPUT, "config_file", "%s is larger than %d bytes", path, CONFIG_FILE_LIMIT);
        if (text.length > 0 && memchr(text.data, '\0', text.length) != NULL)
                return err_set(err, ERR_INPUT, "config_file", "%s has a NUL byte", path);
        *ret = buf_take(&text);
        return 0;
}

/* Sets what the file names and the environment does not: NAME=value lines, # comments, optional quotes. */
static int config_load_env_file(const char *path, struct err *err)
{
        auto_free char *text = NULL;
        char *rest, *line;
        int number = 0, rc = config_read_file(path, &text, err);

        if (rc < 0)
                return rc;
        rest = text;
        while ((line = strsep(&rest, "\n")) != NULL) {
                char *equals, *value;
                size_t length;

                number++;
                line += strspn(line, " \t");
                if (*line == '#' || *line == '\0' || *line == '\r')
                        continue;
                equals = line + strspn(line, NAME_CHARACTERS);
                if (*equals != '=' || equals == line)
                        return err_set(err, ERR_INPUT, "config_file", "%s line %d is not NAME=value", path, number);
                *equals = '\0';
                value = equals + 1;
                length = strlen(value);
                while (length > 0 && isspace((unsigned char)value[length - 1]))
                        value[--length] = '\0';
                if (length >= 2 && (*value == '"' || *value == '\'') && value[length - 1] == *value) {
                        value[length - 1] = '\0';
                        value++;
                }
                setenv(line, value, 0);
        }
        return 0;
}

int config_read(const char *name, char **ret, struct err *err)
{
        const char *text = getenv(name);
        auto_free char *file_name = mem_printf("%s_FILE", name);
        const char *path = getenv(file_name);
        size_t length;
        int rc;

        *ret = NULL;
        if (text != NULL && path != NULL)
                return err_field(err, name, "both %s and %s are set: keep one", name, file_name);
        if (path == NULL) {
                *ret = mem_copy_text(text && *text ? text : NULL);
                return 0;
        }
        rc = config_read_file(path, ret, err);
        if (rc < 0)
                return err_field(err, name, "%s: cannot read the file it names", file_name);
        length = strlen(*ret);
        while (length > 0 && isspace((unsigned char)(*ret)[length - 1]))
                (*ret)[--length] = '\0';
        if (length == 0)
                free(TAKE_PTR(*ret)); /* an empty file sets nothing */
        return 0;
}

static int config_find_value(const struct config_option *option, char **ret, struct err *err)
{
        int rc = config_read(option->name, ret, err);

        if (rc == 0 && *ret == NULL)
                *ret = mem_copy_text(option->fallback);
        return rc;
}

int config_check_choice(const char *name, const char *value, const char *choices, struct err *err)
{
        size_t length = value ? strlen(value) : 0;

        for (const char *p = choices; value != NULL;) {
                const char *end = strchrnul(p, '|');

                if ((size_t)(end - p) == length && strncmp(p, value, length) == 0)
                        return 0;
                if (*end == '\0')
                        return err_field(err, name, "%s: \"%.40s\" is not one of %s", name, value, choices);
                p = end + 1;
        }
        return 0;
}

int config_check_url(const char *name, const char *value, struct err *err)
{
        const char *rest = value == NULL                        ? "x"
                           : strncmp(value, "https://", 8) == 0 ? value + 8
                           : strncmp(value, "http://", 7) == 0  ? value + 7
                                                                : "";

        if (*rest == '\0' || *rest == '/' || strpbrk(rest, " \t\r\n\"<>") != NULL)
                return err_field(err, name, "%s is not a URL that begins with https:// or http://", name);
        return 0;
}

int config_check_address(const char *name, const char *value, struct err *err)
{
        auto_free char *address = mem_copy_bytes(value, strcspn(value, "%")); /* an interface may follow */
        struct in6_addr ignored;

        if (inet_pton(AF_INET, value, &ignored) == 1 || inet_pton(AF_INET6, address, &ignored) == 1)
                return 0;
        return err_field(err, name, "%s: \"%.60s\" is not an IP address to listen on", name, value);
}

int config_check_directory(const char *name, const char *value, struct err *err)
{
        struct stat found;

        if (value == NULL || (stat(value, &found) == 0 && S_ISDIR(found.st_mode)))
                return 0;
        return err_field(err, name, "%s: there is no directory %.200s", name, value);
}

int config_check_file(const char *name, const char *value, struct err *err)
{
        FILE *in = value ? fopen(value, "re") : NULL;

        if (value != NULL && in == NULL)
                return err_field(err, name, "%s: cannot read %.200s: %s", name, value, strerror(errno));
        if (in != NULL)
                fclose(in);
        return 0;
}

static int config_missing(const struct config_option *option, const struct config_table *tables, size_t count,
                          struct err *err)
{
        auto_free char *found = config_lookalike(option->name, tables, count);

        if (found != NULL)
                return err_field(err, found, "%s: did you mean %s?", found, option->name);
        return err_field(err, option->name, "%s is not set: %s", option->name, option->help);
}

static int config_load_option(void *target, const struct config_option *option, const struct config_table *tables,
                              size_t count, struct err *err)
{
        auto_secret char *text = NULL;
        int rc = config_find_value(option, &text, err);

        if (rc < 0)
                return rc;
        if (text == NULL || *text == '\0') {
                return option->flags & CONFIG_REQUIRED ? config_missing(option, tables, count, err) : 0;
        }
        rc = config_parse(option, text, target, err);
        if (rc < 0 && (option->flags & CONFIG_SECRET))
                return err_field(err, option->name, "%s has a value that cannot be used", option->name);
        return rc;
}

struct config_table config_at(const struct config_table *table, size_t base)
{
        struct config_table placed = *table;

        placed.base += base;
        return placed;
}

int config_load(void *target, const struct config_table *tables, size_t count, struct err *err)
{
        const char *file = getenv("TENANTRY_ENV_FILE");
        int rc = file ? config_load_env_file(file, err) : 0;

        for (size_t t = 0; rc == 0 && t < count; t++)
                for (size_t i = 0; rc == 0 && i < tables[t].count; i++)
                        rc = config_load_option((char *)target + tables[t].base, &tables[t].options[i], tables, count,
                                                err);
        for (size_t t = 0; rc == 0 && t < count; t++)
                if (tables[t].check != NULL)
                        rc = tables[t].check((char *)target + tables[t].base, err);
        return rc;
}

static const char *config_type_name(enum config_type type)
{
        static const char *const names[] = { "text", "integer", "duration", "boolean" };

        return names[type];
}

void config_print_help(FILE *out, const struct config_table *tables, size_t count)
{
        fputs("Configuration (environment variables; NAME_FILE reads the value from a file; TENANTRY_ENV_FILE names a "
              ".env file):\n\n",
              out);
        for (size_t t = 0; t < count; t++)
                for (size_t i = 0; i < tables[t].count; i++) {
                        const struct config_option *o = &tables[t].options[i];

                        fprintf(out, "  %s (%s%s%s%s%s)\n      %s\n", o->name, config_type_name(o->type),
                                o->flags & CONFIG_REQUIRED ? ", required" : "",
                                o->flags & CONFIG_SECRET ? ", secret" : "", o->fallback ? ", default " : "",
                                o->fallback ? o->fallback : "", o->help);
                }
}

void config_print_env(FILE *out, const struct config_table *tables, size_t count)
{
        for (size_t t = 0; t < count; t++)
                for (size_t i = 0; i < tables[t].count; i++) {
                        const struct config_option *o = &tables[t].options[i];

                        fprintf(out, "# %s\n%s%s=%s\n\n", o->help, o->flags & CONFIG_REQUIRED ? "" : "#", o->name,
                                o->fallback ? o->fallback : "");
                }
}

void config_print_markdown(FILE *out, const struct config_table *tables, size_t count)
{
        fputs("| variable | type | default | what it does |\n|---|---|---|---|\n", out);
        for (size_t t = 0; t < count; t++)
                for (size_t i = 0; i < tables[t].count; i++) {
                        const struct config_option *o = &tables[t].options[i];

                        fprintf(out, "| `%s` | %s%s | %s%s%s | %s%s |\n", o->name, config_type_name(o->type),
                                o->flags & CONFIG_SECRET ? ", secret" : "", o->fallback ? "`" : "",
                                o->fallback ? o->fallback : "", o->fallback ? "`" : "",
                                o->flags & CONFIG_REQUIRED ? "**Required.** " : "", o->help);
                }
}
