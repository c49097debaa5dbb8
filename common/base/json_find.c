/* A few values out of a JSON text: see json_find.h. To build all values of one of Stripe's events, only to look at six
 * of them, took half of the gateway's time for a webhook. */
#include "common/base/json_find.h"

#include "common/base/crypto.h"
#include "common/base/utf8.h"

#include <string.h>

#define DEPTH_MOST  64
#define DIGITS_MOST 18 /* whatever they are, they fit into 64 bits */

struct find {
        const char *at, *end;
        struct json_found *found;
        int depth;
};

static bool find_value(struct find *find, const struct json_wanted *wanted);

static bool find_take(struct find *find, char c)
{
        if (find->at == find->end || *find->at != c)
                return false;
        find->at++;
        return true;
}

static void find_blanks(struct find *find)
{
        while (find->at < find->end &&
               (*find->at == ' ' || *find->at == '\n' || *find->at == '\r' || *find->at == '\t'))
                find->at++;
}

static bool find_word(struct find *find, const char *word)
{
        size_t length = strlen(word);

        if ((size_t)(find->end - find->at) < length || memcmp(find->at, word, length) != 0)
                return false;
        find->at += length;
        return true;
}

/* After \u; -1 if it is none. */
static int find_hex(struct find *find)
{
        char digits[] = "....";
        unsigned char bytes[2];

        if (find->end - find->at < 4)
                return -1;
        memcpy(digits, find->at, 4);
        find->at += 4;
        return crypto_hex_decode(digits, bytes) == 2 ? bytes[0] << 8 | bytes[1] : -1;
}

/* After the backslash. A character beyond U+FFFF is written as two, the second of which is of no use alone. */
static bool find_escape(struct find *find)
{
        int value;

        if (find->at == find->end)
                return false;
        if (*find->at != 'u')
                return strchr("\"\\/bfnrt", *find->at) != NULL && *find->at++ != '\0';
        find->at++;
        value = find_hex(find);
        if (value >= 0xd800 && value < 0xdc00) {
                if (!find_word(find, "\\u"))
                        return false;
                value = find_hex(find);
                return value >= 0xdc00 && value < 0xe000;
        }
        return value > 0 && !(value >= 0xdc00 && value < 0xe000);
}

/* Of ASCII, what stands for itself in a string. */
static bool find_is_plain(char c)
{
        return (unsigned char)c >= ' ' && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* A string. *ret_plain: without escapes. */
static bool find_string(struct find *find, struct json_found *ret, bool *ret_plain)
{
        size_t length;

        if (!find_take(find, '"'))
                return false;
        *ret = (struct json_found){ .type = JSON_FOUND_TEXT, .text = find->at };
        *ret_plain = true;
        for (;;) {
                while (find->at < find->end && find_is_plain(*find->at))
                        find->at++;
                if (find->at == find->end)
                        return false;
                if (*find->at == '"')
                        break;
                if (*find->at == '\\') {
                        find->at++;
                        *ret_plain = false;
                        if (!find_escape(find))
                                return false;
                        continue;
                }
                length = (unsigned char)*find->at < ' '
                                 ? 0
                                 : utf8_character_length(find->at, (size_t)(find->end - find->at));
                if (length == 0)
                        return false;
                find->at += length;
        }
        ret->length = (size_t)(find->at - ret->text);
        find->at++;
        return true;
}

static size_t find_digits(struct find *find)
{
        const char *begin = find->at;

        while (find->at < find->end && *find->at >= '0' && *find->at <= '9')
                find->at++;
        return (size_t)(find->at - begin);
}

/* Without an exponent: Stripe writes none, and such a number may be too large. */
static bool find_number(struct find *find)
{
        const char *begin;
        size_t digits;

        find_take(find, '-');
        begin = find->at;
        digits = find_digits(find);
        if (digits == 0 || digits > DIGITS_MOST || (*begin == '0' && digits > 1))
                return false;
        if (find_take(find, '.') && find_digits(find) == 0)
                return false;
        return find->at == find->end || (*find->at != 'e' && *find->at != 'E');
}

static bool find_array(struct find *find)
{
        find->at++;
        find_blanks(find);
        if (find_take(find, ']'))
                return true;
        do {
                if (!find_value(find, NULL))
                        return false;
                find_blanks(find);
        } while (find_take(find, ','));
        return find_take(find, ']');
}

static const struct json_wanted *find_wanted(const struct json_wanted *members, const struct json_found *name)
{
        for (; members != NULL && members->name != NULL; members++)
                if (strlen(members->name) == name->length && memcmp(members->name, name->text, name->length) == 0)
                        return members;
        return NULL;
}

static bool find_member(struct find *find, const struct json_wanted *members, unsigned *seen)
{
        const struct json_wanted *wanted;
        struct json_found name;
        bool plain;

        find_blanks(find);
        if (!find_string(find, &name, &plain) || (members != NULL && !plain))
                return false;
        wanted = find_wanted(members, &name);
        if (wanted != NULL) {
                unsigned bit = 1U << (wanted - members);

                if (*seen & bit)
                        return false;
                *seen |= bit;
        }
        find_blanks(find);
        return find_take(find, ':') && find_value(find, wanted);
}

static bool find_object(struct find *find, const struct json_wanted *members)
{
        unsigned seen = 0;

        find->at++;
        find_blanks(find);
        if (find_take(find, '}'))
                return true;
        do {
                if (!find_member(find, members, &seen))
                        return false;
                find_blanks(find);
        } while (find_take(find, ','));
        return find_take(find, '}');
}

static bool find_text(struct find *find, struct json_found *ret, bool is_wanted)
{
        bool plain;

        return find_string(find, ret, &plain) && (plain || !is_wanted);
}

static bool find_simple(struct find *find, struct json_found *ret, bool is_wanted)
{
        switch (*find->at) {
        case '"':
                return find_text(find, ret, is_wanted);
        case 't':
                ret->type = JSON_FOUND_TRUE;
                return find_word(find, "true");
        case 'f':
                ret->type = JSON_FOUND_FALSE;
                return find_word(find, "false");
        case 'n':
                return find_word(find, "null");
        default:
                return find_number(find);
        }
}

static bool find_nested(struct find *find, const struct json_wanted *members)
{
        bool good;

        if (++find->depth > DEPTH_MOST)
                return false;
        good = *find->at == '{' ? find_object(find, members) : find_array(find);
        find->depth--;
        return good;
}

static bool find_value(struct find *find, const struct json_wanted *wanted)
{
        struct json_found found = { .type = JSON_FOUND_NOTHING };

        find_blanks(find);
        if (find->at == find->end)
                return false;
        if (*find->at == '{' || *find->at == '[')
                return find_nested(find, wanted ? wanted->members : NULL);
        if (!find_simple(find, &found, wanted != NULL))
                return false;
        if (wanted != NULL)
                find->found[wanted->place] = found;
        return true;
}

bool json_scan(const char *text, size_t length, const struct json_wanted *members, struct json_found *found)
{
        struct find find = { .at = text, .end = text + length, .found = found };

        find_blanks(&find);
        if (find.at == find.end || *find.at != '{' || !find_nested(&find, members))
                return false;
        find_blanks(&find);
        return find.at == find.end;
}

static struct json_found find_in_value(const json_t *value)
{
        if (json_is_boolean(value))
                return (struct json_found){ .type = json_is_true(value) ? JSON_FOUND_TRUE : JSON_FOUND_FALSE };
        if (!json_is_string(value))
                return (struct json_found){ .type = JSON_FOUND_NOTHING };
        return (struct json_found){ .type = JSON_FOUND_TEXT,
                                    .text = json_string_value(value),
                                    .length = json_string_length(value) };
}

void json_pick(const json_t *value, const struct json_wanted *members, struct json_found *found)
{
        for (; members != NULL && members->name != NULL; members++) {
                const json_t *member = json_object_get(value, members->name);

                found[members->place] = find_in_value(member);
                json_pick(member, members->members, found);
        }
}

int json_find(const char *text, size_t length, const struct json_wanted *members, struct json_found *found,
              json_t **ret, struct err *err)
{
        *ret = NULL;
        if (json_scan(text, length, members, found))
                return 0;
        if (json_parse(text, length, ret, err) < 0)
                return -ERR_INPUT;
        json_pick(*ret, members, found); /* over what the pass had found until it stopped */
        return 0;
}
