/* Identifiers: see id.h. */
#include "common/base/id.h"

#include "common/base/clock.h"
#include "common/base/crypto.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct id id_from_bytes(unsigned char b[16], unsigned version)
{
        struct id id;

        b[6] = (unsigned char)((b[6] & 0x0f) | (version << 4));
        b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
        snprintf(id.text, sizeof(id.text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                 b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
        return id;
}

struct id id_new(void)
{
        unsigned char bytes[16];
        int64_t now = clock_wall_ms();

        crypto_random(bytes, sizeof(bytes));
        for (int i = 0; i < 6; i++)
                bytes[i] = (unsigned char)(now >> (8 * (5 - i)));
        return id_from_bytes(bytes, 7);
}

struct id id_derive(const char *part, ...)
{
        struct crypto_digest digest;
        struct crypto_hash *hash = crypto_hash_new();
        va_list args;

        va_start(args, part);
        for (const char *p = part; p != NULL; p = va_arg(args, const char *)) {
                uint64_t length = strlen(p);

                crypto_hash_add(hash, &length, sizeof(length));
                crypto_hash_add(hash, p, length);
        }
        va_end(args);
        crypto_hash_finish(hash, &digest);
        return id_from_bytes(digest.bytes, 8);
}

bool id_is_valid(const char *text)
{
        if (text == NULL || strlen(text) != ID_LENGTH)
                return false;
        for (int i = 0; i < ID_LENGTH; i++) {
                if (i == 8 || i == 13 || i == 18 || i == 23) {
                        if (text[i] != '-')
                                return false;
                } else if (strchr("0123456789abcdef", text[i]) == NULL) {
                        return false;
                }
        }
        return true;
}

bool id_span(const char *beginning, struct id *ret_first, struct id *ret_last)
{
        size_t length = strlen(beginning);

        *ret_first = (struct id){ .text = "00000000-0000-0000-0000-000000000000" };
        *ret_last = (struct id){ .text = "ffffffff-ffff-ffff-ffff-ffffffffffff" };
        if (length == 0 || length > ID_LENGTH)
                return false;
        memcpy(ret_first->text, beginning, length);
        memcpy(ret_last->text, beginning, length);
        return id_is_valid(ret_first->text);
}
