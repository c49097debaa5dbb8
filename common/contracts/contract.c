/* The promises about event data: see contract.h. */
#include "common/contracts/contract.h"

#include "common/base/id.h"
#include "common/base/memory.h"
#include "common/contracts/signup.h"

#include <ctype.h>
#include <string.h>

static const struct contract_field SIGNUP[] = {
        { "tenant_id", CONTRACT_UUID, true, 36 },   { "company", CONTRACT_TEXT, true, 200 },
        { "email", CONTRACT_EMAIL, true, 254 },     { "name", CONTRACT_TEXT, false, 200 },
        { "subdomain", CONTRACT_LABEL, false, 40 }, { "plan", CONTRACT_NAME, false, 40 },
        { "region", CONTRACT_NAME, false, 40 },
};

static const struct contract_field COMMAND[] = {
        { "tenant_id", CONTRACT_UUID, true, 36 },
        { "reason", CONTRACT_TEXT, false, 500 },
};

static const struct contract_field CONFIRMED_COMMAND[] = {
        { "tenant_id", CONTRACT_UUID, true, 36 },
        { "reason", CONTRACT_TEXT, false, 500 },
        { "confirm", CONTRACT_TEXT, true, 40 },
};

#define COMMAND_CONTRACT(name)                                                                                         \
        {                                                                                                              \
                "tenant." name ".requested.v1", "tenant.command.v1", COMMAND, ARRAY_SIZE(COMMAND)                      \
        }

const struct contract CONTRACTS[] = {
        { "tenant.signup.requested.v1", "tenant.signup.v1", SIGNUP, ARRAY_SIZE(SIGNUP) },
        COMMAND_CONTRACT("suspend"),
        COMMAND_CONTRACT("resume"),
        COMMAND_CONTRACT("archive"),
        { "tenant.deprovision.requested.v1", "tenant.command.v1", CONFIRMED_COMMAND, ARRAY_SIZE(CONFIRMED_COMMAND) },
        COMMAND_CONTRACT("rotate_credentials"),
        COMMAND_CONTRACT("retry"),
        COMMAND_CONTRACT("backup"),
        COMMAND_CONTRACT("resend_invite"),
        COMMAND_CONTRACT("invite_link"),
        { NULL, NULL, NULL, 0 },
};

const struct contract *contract_find(const char *type)
{
        for (const struct contract *c = CONTRACTS; c->type != NULL; c++)
                if (strcmp(c->type, type) == 0)
                        return c;
        return NULL;
}

const char *contract_only_type(const char *topic)
{
        const char *only = NULL;

        for (const struct contract *c = CONTRACTS; c->type != NULL; c++) {
                if (strcmp(c->topic, topic) != 0)
                        continue;
                if (only != NULL)
                        return NULL;
                only = c->type;
        }
        return only;
}

/* Control characters (U+0000 to U+001F, U+007F to U+009F), and those that turn the direction of text around (U+202A to
 * U+202E, U+2066 to U+2069), which make a name look like another one. */
static bool is_control(const unsigned char *c)
{
        if (c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0))
                return true;
        return c[0] == 0xe2 &&
               ((c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae) || (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9));
}

/* Counts characters of valid UTF-8 (jansson let nothing else in); -1 where there is a control character. */
static long count_characters(const char *text, size_t length)
{
        long count = 0;

        for (size_t i = 0; i < length; i++) {
                const unsigned char *c = (const unsigned char *)text + i;

                if (is_control(c))
                        return -1;
                count += (*c & 0xc0) != 0x80;
        }
        return count;
}

static int check_text(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        long count = count_characters(text, length);

        if (count < 0)
                return err_field(err, field->name, "%s has a control character", field->name);
        if (count == 0 || strspn(text, " ") == length)
                return err_field(err, field->name, "%s is empty", field->name);
        if ((size_t)count > field->max)
                return err_field(err, field->name, "%s is longer than %zu characters", field->name, field->max);
        return 0;
}

static bool is_label_character(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int check_label(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        bool good = length >= 3 && length <= field->max && is_label_character(text[0]) &&
                    is_label_character(text[length - 1]);

        for (size_t i = 0; good && i < length; i++)
                good = is_label_character(text[i]) || text[i] == '-';
        if (good)
                return 0;
        return err_field(err, field->name, "%s must be 3 to %zu of a-z, 0-9 and hyphens, not at its ends", field->name,
                         field->max);
}

static int check_name(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        bool good = length >= 1 && length <= field->max;

        for (size_t i = 0; good && i < length; i++)
                good = is_label_character(text[i]) || strchr("-_.", text[i]) != NULL;
        if (good)
                return 0;
        return err_field(err, field->name, "%s must be 1 to %zu of a-z, 0-9, hyphen, underscore and dot", field->name,
                         field->max);
}

/* Two labels or more of letters, digits and inner hyphens. */
static bool is_domain(const char *text)
{
        size_t labels = 0;

        for (;; text++) {
                const char *label = text;

                while (isalnum((unsigned char)*text) || *text == '-')
                        text++;
                if (text == label || text - label > 63 || *label == '-' || text[-1] == '-')
                        return false;
                labels++;
                if (*text != '.')
                        return *text == '\0' && labels >= 2;
        }
}

/* The plain form that mail servers accept everywhere; no comments, quotes or routes. */
static int check_email(const struct contract_field *field, const char *text, size_t length, struct err *err)
{
        const char *at = strchr(text, '@');
        size_t local = at ? (size_t)(at - text) : 0, domain = at ? length - local - 1 : 0;
        bool good = length <= field->max && local >= 1 && local <= 64 && domain >= 3 && text[0] != '.' &&
                    at[-1] != '.' && strstr(text, "..") == NULL && is_domain(at + 1);

        for (size_t i = 0; good && i < local; i++)
                good = isalnum((unsigned char)text[i]) || strchr(".!#$%&'*+/=?^_`{|}~-", text[i]) != NULL;
        if (good)
                return 0;
        return err_field(err, field->name, "%s is not a mail address", field->name);
}

static int check_field(const struct contract_field *field, const json_t *value, struct err *err)
{
        const char *text = json_string_value(value);
        size_t length = json_string_length(value);

        if (value == NULL && field->required)
                return err_field(err, field->name, "%s is missing", field->name);
        if (value == NULL)
                return 0;
        if (text == NULL)
                return err_field(err, field->name, "%s must be a text", field->name);
        if (strlen(text) != length)
                return err_field(err, field->name, "%s has a control character", field->name);
        switch (field->kind) {
        case CONTRACT_TEXT:
                return check_text(field, text, length, err);
        case CONTRACT_UUID:
                return id_is_valid(text) ? 0
                                         : err_field(err, field->name, "%s is not a UUID in lower case", field->name);
        case CONTRACT_EMAIL:
                return check_email(field, text, length, err);
        case CONTRACT_LABEL:
                return check_label(field, text, length, err);
        case CONTRACT_NAME:
                return check_name(field, text, length, err);
        }
        return err_field(err, field->name, "%s has no known kind", field->name);
}

static int refuse_unknown(const struct contract *contract, const json_t *data, struct err *err)
{
        const char *name;
        json_t *value;

        json_object_foreach ((json_t *)(uintptr_t)data, name, value) {
                bool known = false;

                for (size_t i = 0; i < contract->count; i++)
                        known |= strcmp(contract->fields[i].name, name) == 0;
                if (!known)
                        return err_field(err, name, "%.60s is not a field of %s", name, contract->type);
        }
        return 0;
}

int contract_check(const struct contract *contract, const char *key, const json_t *data, json_t **ret, struct err *err)
{
        auto_json *copy = NULL;
        const char *tenant;
        int rc;

        if (key == NULL || !id_is_valid(key))
                return err_field(err, "key", "the message key must be the tenant id, a UUID in lower case");
        if (!json_is_object(data))
                return err_set(err, ERR_INPUT, "not_an_object", "the data must be a JSON object");
        rc = refuse_unknown(contract, data, err);
        if (rc < 0)
                return rc;
        copy = json_copy((json_t *)(uintptr_t)data);
        if (json_object_get(copy, "tenant_id") == NULL)
                json_object_set_new(copy, "tenant_id", json_string(key));
        for (size_t i = 0; rc == 0 && i < contract->count; i++)
                rc = check_field(&contract->fields[i], json_object_get(copy, contract->fields[i].name), err);
        if (rc < 0)
                return rc;
        tenant = json_text(copy, "tenant_id");
        if (strcmp(tenant, key) != 0)
                return err_field(err, "tenant_id", "tenant_id is not the message key");
        if (contract->fields == SIGNUP)
                signup_normalize(copy);
        *ret = TAKE_PTR(copy);
        return 0;
}
