/* One error: see err.h. */
#include "common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* How many bytes the UTF-8 character at text has; 0 where there is none (cut off, or of another encoding). */
static size_t character_length(const unsigned char *c)
{
        size_t length = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;

        for (size_t i = 1; i < length; i++)
                if ((c[i] & 0xc0) != 0x80)
                        return 0;
        if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
            (c[0] == 0xf4 && c[1] > 0x8f))
                return 0;
        return length;
}

/* Errors quote what they were given, cut to fit; as JSON they must be UTF-8, or the whole answer would be lost. */
static void keep_utf8(char *text)
{
        while (*text) {
                size_t length = character_length((const unsigned char *)text);

                if (length == 0)
                        *text = '?';
                text += MAX(length, 1);
        }
}

int err_set(struct err *err, enum err_class class, const char *code, const char *format, ...)
{
        va_list args;

        if (err == NULL)
                return -(int)class;
        memset(err, 0, sizeof(*err));
        err->class = class;
        snprintf(err->code, sizeof(err->code), "%s", code);
        va_start(args, format);
        vsnprintf(err->message, sizeof(err->message), format, args);
        va_end(args);
        keep_utf8(err->message);
        return -(int)class;
}

int err_field(struct err *err, const char *field, const char *format, ...)
{
        va_list args;

        if (err == NULL)
                return -ERR_INPUT;
        memset(err, 0, sizeof(*err));
        err->class = ERR_INPUT;
        snprintf(err->code, sizeof(err->code), "invalid_field");
        snprintf(err->field, sizeof(err->field), "%s", field);
        va_start(args, format);
        vsnprintf(err->message, sizeof(err->message), format, args);
        va_end(args);
        keep_utf8(err->field);
        keep_utf8(err->message);
        return -ERR_INPUT;
}

const char *err_class_name(enum err_class class)
{
        static const char *const names[] = { "none", "input",     "auth",     "conflict", "busy",
                                             "gone", "permanent", "internal", "ours" };

        assert((size_t) class < ARRAY_SIZE(names));
        return names[class];
}

bool err_is_transient(const struct err *err)
{
        return err->class == ERR_BUSY || err->class == ERR_INTERNAL;
}
