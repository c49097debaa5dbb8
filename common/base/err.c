/* One error: see err.h. */
#include "common/base/err.h"

#include "common/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Errors quote their input, cut to fit; they must stay valid UTF-8, or the JSON answer could not be made. */
static void err_keep_utf8(char *text)
{
        size_t length = strlen(text);

        for (size_t at = 0; (at += utf8_valid_length(text + at, length - at)) < length;)
                text[at] = '?';
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
        err_keep_utf8(err->message);
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
        err_keep_utf8(err->field);
        err_keep_utf8(err->message);
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
