/* Reading and writing JSON: see json.h. */
#include "common/base/json.h"

#include "common/base/memory.h"

#include <string.h>

int json_parse(const char *text, size_t length, json_t **ret, struct err *err)
{
        json_error_t error;
        json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

        if (value == NULL)
                return err_set(err, ERR_INPUT, "not_json", "not valid JSON: %s (line %d, column %d)", error.text,
                               error.line, error.column);
        *ret = value;
        return 0;
}

char *json_print(const json_t *value)
{
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

        return text ? text : mem_copy_text("null");
}

const char *json_text(const json_t *object, const char *name)
{
        return json_string_value(json_object_get(object, name));
}

bool json_text_is(const json_t *object, const char *name, const char *text)
{
        const char *found = json_text(object, name);

        return found != NULL && text != NULL && strcmp(found, text) == 0;
}

int64_t json_number(const json_t *object, const char *name, int64_t fallback)
{
        const json_t *value = json_object_get(object, name);

        return json_is_integer(value) ? json_integer_value(value) : fallback;
}

bool json_flag(const json_t *object, const char *name)
{
        return json_is_true(json_object_get(object, name));
}

void json_set_text(json_t *object, const char *name, const char *text)
{
        json_object_set_new(object, name, text ? json_string(text) : json_null());
}

json_t *json_of_error(const struct err *err)
{
        return json_pack("{s:s, s:s, s:s}", "code", err->code, "class", err_class_name(err->class), "detail",
                         err->message);
}
