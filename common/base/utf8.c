/* UTF-8: see utf8.h. */
#include "common/base/utf8.h"

size_t utf8_character_length(const char *text, size_t length)
{
        const unsigned char *c = (const unsigned char *)text;
        size_t wanted;

        if (length == 0)
                return 0;
        wanted = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;
        if (wanted > length)
                return 0;
        for (size_t i = 1; i < wanted; i++)
                if ((c[i] & 0xc0) != 0x80)
                        return 0;
        if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
            (c[0] == 0xf4 && c[1] > 0x8f))
                return 0;
        return wanted;
}

size_t utf8_valid_length(const char *text, size_t length)
{
        size_t valid = 0, next;

        while (valid < length && (next = utf8_character_length(text + valid, length - valid)) > 0)
                valid += next;
        return valid;
}
