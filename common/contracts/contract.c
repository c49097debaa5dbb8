/* The promises about event data: see contract.h. */
#include "common/contracts/contract.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/duration.h"
#include "common/base/id.h"
#include "common/base/memory.h"
#include "common/contracts/mail_address.h"

#include <stdio.h>
#include <string.h>

const struct contract *contract_find(const struct contract *list, const char *type)
{
        for (const struct contract *c = list; c->type != NULL; c++)
                if (strcmp(c->type, type) == 0)
                        return c;
        return NULL;
}

const char *contract_only_type(const struct contract *list, const char *topic)
{
        const char *only = NULL;

        for (const struct contract *c = list; c->type != NULL; c++) {
                if (strcmp(c->topic, topic) != 0)
                        continue;
                if (only != NULL)
                        return NULL;
                only = c->type;
        }
        return only;
}

int contract_check_topic(const struct contract *contract, const char *topic, struct err *err)
{
        if (topic != NULL && strcmp(contract->topic, topic) == 0)
                return 0;
        err_field(err, "type", "%s is accepted only from the topic %s", contract->type, contract->topic);
        if (err != NULL)
                snprintf(err->code, sizeof(err->code), "wrong_topic");
        return -ERR_INPUT;
}

int contract_check_form(const struct contract *contract, bool is_raw, struct err *err)
{
        if (contract->is_raw == is_raw)
                return 0;
        return err_field(err, "content-type", "content-type must be %s",
                         contract->is_raw ? "application/octet-stream" : "application/json");
}

/* Control characters (U+0000 to U+001F, U+007F to U+009F), and those that change the direction of text (U+202A to
 * U+202E, U+2066 to U+2069), which can make a name look like another one. */
static bool contract_is_control(const unsigned char *c)
{
        if (c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0))
                return true;
        return c[0] == 0xe2 &&
               ((c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae) || (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9));
}

/* Counts characters of valid UTF-8 (jansson accepts nothing else); -1 if there is a control character that is not
 * among those allowed. */
static long contract_count_characters(const char *text, size_t length, const char *allowed)
{
        long count = 0;

        for (size_t i = 0; i < length; i++) {
                const unsigned char *c = (const unsigned char *)text + i;

                if (contract_is_control(c) && strchr(allowed, *c) == NULL)
                        return -1;
                count += (*c & 0xc0) != 0x80;
        }
        return count;
}

static int contract_check_text(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        const char *breaks = field->kind == CONTRACT_SOURCE ? "\t\r\n" : "";
        long count = contract_count_characters(text, length, breaks);

        if (count < 0)
                return err_field(err, field->name, "%s has a control character", field->name);
        if (count == 0 || strspn(text, " \t\r\n") == length)
                return err_field(err, field->name, "%s is empty", field->name);
        if ((size_t)count > field->max)
                return err_field(err, field->name, "%s is longer than %zu characters", field->name, field->max);
        return 0;
}

static bool contract_is_label_character(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int contract_check_label(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        bool good = length >= 3 && length <= field->max && contract_is_label_character(text[0]) &&
                    contract_is_label_character(text[length - 1]);

        for (size_t i = 0; good && i < length; i++)
                good = contract_is_label_character(text[i]) || text[i] == '-';
        if (good)
                return 0;
        return err_field(err, field->name, "%s must be 3 to %zu of a-z, 0-9 and hyphens, not at its ends", field->name,
                         field->max);
}

static int contract_check_name(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        bool good = length >= 1 && length <= field->max;

        for (size_t i = 0; good && i < length; i++)
                good = contract_is_label_character(text[i]) || strchr("-_.", text[i]) != NULL;
        if (good)
                return 0;
        return err_field(err, field->name, "%s must be 1 to %zu of a-z, 0-9, hyphen, underscore and dot", field->name,
                         field->max);
}

static int contract_check_choice(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        for (const char *choice = field->choices; choice != NULL; choice = strchr(choice, '|')) {
                choice += *choice == '|';
                if (strcspn(choice, "|") == length && strncmp(choice, text, length) == 0)
                        return 0;
        }
        return err_field(err, field->name, "%s must be one of %s", field->name, field->choices);
}

static int contract_check_email(const struct contract_field *field, const char *text, struct err *err)
{
        auto_free char *address = NULL;

        return mail_address_read(field->name, text, &address, err);
}

static int contract_check_value(const struct contract_field *field, const json_t *value, struct err *err);

static int contract_check_number(const struct contract_field *field, const json_t *value, struct err *err)
{
        double number = json_number_value(value);

        if (field->kind == CONTRACT_INTEGER && !json_is_integer(value))
                return err_field(err, field->name, "%s must be a whole number", field->name);
        if (!json_is_number(value))
                return err_field(err, field->name, "%s must be a number", field->name);
        if (number < field->least || number > field->most)
                return err_field(err, field->name, "%s must be %g to %g", field->name, field->least, field->most);
        return 0;
}

static int contract_check_bytes(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        auto_free unsigned char *bytes = mem_alloc(length + 1, 1);
        int count = crypto_base64_decode(text, bytes);

        if (count < 0)
                return err_field(err, field->name, "%s is not base64", field->name);
        if ((size_t)count > field->max)
                return err_field(err, field->name, "%s has more than %zu bytes", field->name, field->max);
        return 0;
}

static int contract_check_duration(const struct contract_field *field, const char *text, struct err *err)
{
        int64_t ms;

        if (duration_parse(field->name, text, &ms, err) < 0)
                return -ERR_INPUT;
        if ((double)ms >= field->least && (double)ms <= field->most)
                return 0;
        return err_field(err, field->name, "%s: %.20s is not between %g and %g milliseconds", field->name, text,
                         field->least, field->most);
}

static bool contract_is_time(const char *text)
{
        static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
        const char *form = "dddd-dd-ddTdd:dd:ddZ", *with_ms = "dddd-dd-ddTdd:dd:dd.dddZ";
        int year, month, day, hour, minute, second;

        form = strlen(text) == strlen(form) ? form : with_ms;
        if (strlen(text) != strlen(form))
                return false;
        for (size_t i = 0; form[i]; i++)
                if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
                        return false;
        if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &year, &month, &day, &hour, &minute, &second) != 6)
                return false;
        if (year < 1 || month < 1 || month > 12 || day < 1 || day > days[month - 1])
                return false;
        if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
                return false;
        return hour < 24 && minute < 60 && second < 60;
}

static int contract_check_time(const struct contract_field *field, const char *text, struct err *err)
{
        if (contract_is_time(text))
                return 0;
        return err_field(err, field->name, "%s must be a time in UTC, such as 2026-01-31T12:00:00Z", field->name);
}

static int contract_check_string(const struct contract_field *field, const json_t *value, struct err *err)
{
        const char *text = json_string_value(value);
        size_t length = json_string_length(value);

        if (text == NULL)
                return err_field(err, field->name, "%s must be a text", field->name);
        if (strlen(text) != length)
                return err_field(err, field->name, "%s has a control character", field->name);
        switch (field->kind) {
        case CONTRACT_TEXT:
        case CONTRACT_SOURCE:
                return contract_check_text(field, text, length, err);
        case CONTRACT_UUID:
                return id_is_valid(text) ? 0
                                         : err_field(err, field->name, "%s is not a UUID in lower case", field->name);
        case CONTRACT_EMAIL:
                return contract_check_email(field, text, err);
        case CONTRACT_LABEL:
                return contract_check_label(field, text, length, err);
        case CONTRACT_NAME:
                return contract_check_name(field, text, length, err);
        case CONTRACT_CHOICE:
                return contract_check_choice(field, text, length, err);
        case CONTRACT_BYTES:
                return contract_check_bytes(field, text, length, err);
        case CONTRACT_TIME:
                return contract_check_time(field, text, err);
        case CONTRACT_DURATION:
                return contract_check_duration(field, text, err);
        default:
                return err_field(err, field->name, "%s has no known kind", field->name);
        }
}

static int contract_check_fields(const char *of, const struct contract_field *fields, size_t count, const json_t *data,
                                 struct err *err);

static int contract_check_list(const struct contract_field *field, const json_t *list, struct err *err)
{
        struct contract_field element = field->fields[0];
        size_t i;
        json_t *value;

        if (!json_is_array(list))
                return err_field(err, field->name, "%s must be a list", field->name);
        if (json_array_size(list) > field->max)
                return err_field(err, field->name, "%s has more than %zu elements", field->name, field->max);
        element.name = field->name;
        json_array_foreach (list, i, value)
                if (contract_check_value(&element, value, err) < 0)
                        return -ERR_INPUT;
        return 0;
}

/* If something inside it is wrong, the error names the path to it. */
static int contract_check_object(const struct contract_field *field, const json_t *object, struct err *err)
{
        char inner[sizeof(err->field)];

        if (!json_is_object(object))
                return err_field(err, field->name, "%s must be an object", field->name);
        if (contract_check_fields(field->name, field->fields, field->count, object, err) == 0)
                return 0;
        if (err != NULL) {
                snprintf(inner, sizeof(inner), "%s", err->field);
                snprintf(err->field, sizeof(err->field), "%.20s.%.40s", field->name, inner);
        }
        return -ERR_INPUT;
}

static int contract_check_value(const struct contract_field *field, const json_t *value, struct err *err)
{
        switch (field->kind) {
        case CONTRACT_NUMBER:
        case CONTRACT_INTEGER:
                return contract_check_number(field, value, err);
        case CONTRACT_BOOLEAN:
                return json_is_boolean(value) ? 0
                                              : err_field(err, field->name, "%s must be true or false", field->name);
        case CONTRACT_LIST:
                return contract_check_list(field, value, err);
        case CONTRACT_OBJECT:
                return contract_check_object(field, value, err);
        default:
                return contract_check_string(field, value, err);
        }
}

static int contract_check_fields(const char *of, const struct contract_field *fields, size_t count, const json_t *data,
                                 struct err *err)
{
        const char *name;
        json_t *value;

        json_object_foreach ((json_t *)(uintptr_t)data, name, value) {
                bool known = false;

                for (size_t i = 0; i < count; i++)
                        known |= strcmp(fields[i].name, name) == 0;
                if (!known)
                        return err_field(err, name, "%.60s is not a field of %s", name, of);
        }
        for (size_t i = 0; i < count; i++) {
                value = json_object_get(data, fields[i].name);
                if (value == NULL && fields[i].required)
                        return err_field(err, fields[i].name, "%s is missing", fields[i].name);
                if (value != NULL && contract_check_value(&fields[i], value, err) < 0)
                        return -ERR_INPUT;
        }
        return 0;
}

/* Compares the key fields in the data with the key. If the key is a single field, the data may leave that field out. */
static int contract_check_key(const struct contract *contract, const char *key, json_t *data, struct err *err)
{
        auto_buf made = { 0 };

        for (size_t i = 0; contract->key[i] != NULL; i++) {
                const char *part = json_text(data, contract->key[i]);

                buf_printf(&made, "%s%s", i ? "," : "", part ? part : "");
        }
        if (strcmp(made.data, key) == 0)
                return 0;
        if (contract->key[1] == NULL)
                return err_field(err, contract->key[0], "%s is not the message key", contract->key[0]);
        return err_field(err, "key", "the message key does not match the fields it is made of");
}

/* A key that is not a valid value of its field is refused as a key, since nothing else is wrong. */
static int contract_fill_in_key(const struct contract *contract, const char *key, json_t *data, struct err *err)
{
        const struct contract_field *field = contract->fields;
        auto_json *value = key ? json_string(key) : NULL;

        if (contract->key[1] != NULL)
                return value ? 0 : err_field(err, "key", "the message has no key of valid text");
        while (strcmp(field->name, contract->key[0]) != 0)
                field++;
        if (value == NULL || contract_check_value(field, value, NULL) < 0)
                return err_field(err, "key", "the message key must be the %s%s", field->name,
                                 field->kind == CONTRACT_UUID ? ", a UUID in lower case" : "");
        if (json_object_get(data, field->name) == NULL)
                json_object_set(data, field->name, value);
        return 0;
}

int contract_check(const struct contract *contract, const char *key, const json_t *data, json_t **ret, struct err *err)
{
        auto_json *copy = json_is_object(data) ? json_copy((json_t *)(uintptr_t)data) : json_object();

        if (contract->key != NULL && contract_fill_in_key(contract, key, copy, err) < 0)
                return -ERR_INPUT;
        if (!json_is_object(data))
                return err_set(err, ERR_INPUT, "not_an_object", "the data must be a JSON object");
        if (contract_check_fields(contract->type, contract->fields, contract->count, copy, err) < 0 ||
            (contract->key != NULL && contract_check_key(contract, key, copy, err) < 0) ||
            (contract->check != NULL && contract->check(copy, err) < 0))
                return -ERR_INPUT;
        if (contract->complete != NULL && contract->complete(copy, err) < 0)
                return -ERR_INPUT;
        *ret = TAKE_PTR(copy);
        return 0;
}
