/* Answers as YAML: see yaml.h. Strings that YAML could misread are written with JSON quoting, which YAML accepts. */
#include "cli/yaml.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool yaml_is_plain(const char *text)
{
        static const char *const taken[] = { "y", "n", "yes", "no", "on", "off", "true", "false", "null" };

        if (!isalpha((unsigned char)*text) || text[strlen(text) - 1] == ' ')
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
                if (strcasecmp(taken[i], text) == 0)
                        return false;
        for (; *text; text++)
                if (!isalnum((unsigned char)*text) && strchr("-_./ ", *text) == NULL)
                        return false;
        return true;
}

static void yaml_print_scalar(const json_t *value, FILE *out)
{
        const char *text = json_string_value(value);

        if (text != NULL && yaml_is_plain(text))
                fputs(text, out);
        else
                json_dumpf(value, out, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT);
        putc('\n', out);
}

static bool yaml_is_tree(const json_t *value)
{
        return json_object_size(value) > 0 || json_array_size(value) > 0;
}

static void yaml_print_tree(const json_t *value, int depth, bool indented, FILE *out);

/* What follows "name:" or "-". */
static void yaml_print_value(const json_t *value, int depth, bool in_list, FILE *out)
{
        if (!yaml_is_tree(value)) {
                putc(' ', out);
                yaml_print_scalar(value, out);
        } else if (in_list) {
                putc(' ', out);
                yaml_print_tree(value, depth, true, out);
        } else {
                putc('\n', out);
                yaml_print_tree(value, depth, false, out);
        }
}

static void yaml_print_key(const char *key, FILE *out)
{
        json_t *text = yaml_is_plain(key) ? NULL : json_string(key);

        if (text == NULL)
                fputs(key, out);
        else
                json_dumpf(text, out, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        json_decref(text);
        putc(':', out);
}

/* indented: the first line already follows a "- ". Answers are no deeper than the JSON parser allows. */
static void yaml_print_tree(const json_t *value, int depth, bool indented, FILE *out)
{
        const char *key;
        json_t *each;
        size_t i;

        json_object_foreach ((json_t *)value, key, each) {
                fprintf(out, "%*s", indented ? 0 : 2 * depth, "");
                yaml_print_key(key, out);
                yaml_print_value(each, depth + 1, false, out);
                indented = false;
        }
        json_array_foreach (value, i, each) {
                fprintf(out, "%*s-", indented ? 0 : 2 * depth, "");
                yaml_print_value(each, depth + 1, true, out);
                indented = false;
        }
}

void yaml_print(const json_t *value, FILE *out)
{
        if (yaml_is_tree(value))
                yaml_print_tree(value, 0, false, out);
        else
                yaml_print_scalar(value, out);
}
