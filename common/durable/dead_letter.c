/* Prepares a refused message to be produced again: see dead_letter.h. */
#include "common/durable/dead_letter.h"

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/memory.h"

#include <string.h>

/* NULL for NULL: a missing key is not an empty one. */
static unsigned char *dead_letter_decode(struct dead_letter *letter, const char *text, size_t *ret_length)
{
        unsigned char *bytes = text ? mem_alloc(strlen(text) + 1, 1) : NULL;

        *ret_length = text ? (size_t)MAX(0, crypto_base64_decode(text, bytes)) : 0;
        letter->owned[letter->owned_count++] = bytes;
        return bytes;
}

void dead_letter_read(const struct pg_rows *rows, int row, struct dead_letter *ret)
{
        const char *text = pg_text(rows, row, "headers");
        auto_json *list = NULL;
        json_t *pair;
        size_t i, ignored;

        memset(ret, 0, sizeof(*ret));
        if (text == NULL || json_parse(text, strlen(text), &list, NULL) < 0)
                list = json_array();
        ret->room = json_array_size(list) + DEAD_LETTER_OURS;
        ret->headers = mem_alloc(ret->room, sizeof(*ret->headers));
        ret->owned = mem_alloc(2 * ret->room, sizeof(*ret->owned)); /* ours are borrowed: room for key, value */
        ret->record.topic = pg_text(rows, row, "topic");
        ret->record.headers = ret->headers;
        ret->record.key = dead_letter_decode(ret, pg_text(rows, row, "message_key"), &ret->record.key_length);
        ret->record.value = dead_letter_decode(ret, pg_text(rows, row, "value"), &ret->record.value_length);
        json_array_foreach (list, i, pair) {
                struct kafka_header *header = &ret->headers[ret->record.header_count];

                header->name = (char *)dead_letter_decode(ret, json_string_value(json_array_get(pair, 0)), &ignored);
                header->value = dead_letter_decode(ret, json_string_value(json_array_get(pair, 1)), &header->length);
                ret->record.header_count++;
        }
}

void dead_letter_add(struct dead_letter *letter, const char *name, const char *value)
{
        assert(letter->record.header_count < letter->room);
        if (value != NULL)
                letter->headers[letter->record.header_count++] =
                        (struct kafka_header){ .name = name, .value = value, .length = strlen(value) };
}

void dead_letter_release(struct dead_letter *letter)
{
        for (size_t i = 0; i < letter->owned_count; i++)
                free(letter->owned[i]);
        free(TAKE_PTR(letter->owned));
        free(TAKE_PTR(letter->headers));
        letter->owned_count = 0;
}
