/* One error: see err.h. */
#include "common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
        return -ERR_INPUT;
}

const char *err_class_name(enum err_class class)
{
        static const char *const names[] = { "none", "input", "auth", "conflict", "busy", "gone", "permanent", "internal" };

        assert((size_t)class < ARRAY_SIZE(names));
        return names[class];
}

bool err_is_transient(const struct err *err)
{
        return err->class == ERR_BUSY || err->class == ERR_INTERNAL;
}
