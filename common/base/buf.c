/* A growing byte buffer: see buf.h. */
#include "common/base/buf.h"

#include "common/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void buf_make_room(struct buf *buf, size_t more)
{
        size_t wanted = buf->length + more + 1;

        if (wanted <= buf->capacity)
                return;
        buf->capacity = MAX(wanted, buf->capacity * 2 + 64);
        buf->data = mem_resize(buf->data, buf->capacity);
}

void buf_add(struct buf *buf, const void *bytes, size_t length)
{
        buf_make_room(buf, length);
        if (length > 0)
                memcpy(buf->data + buf->length, bytes, length);
        buf->length += length;
        buf->data[buf->length] = '\0';
}

void buf_add_text(struct buf *buf, const char *text)
{
        buf_add(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
        va_list args, again;
        int length;

        va_start(args, format);
        va_copy(again, args);
        length = vsnprintf(NULL, 0, format, args);
        va_end(args);
        assert(length >= 0);
        buf_make_room(buf, (size_t)length);
        vsnprintf(buf->data + buf->length, (size_t)length + 1, format, again);
        va_end(again);
        buf->length += (size_t)length;
}

void buf_reset(struct buf *buf)
{
        buf->length = 0;
        if (buf->data != NULL)
                buf->data[0] = '\0';
}

void buf_free(struct buf *buf)
{
        free(buf->data);
        *buf = (struct buf){ 0 };
}

char *buf_take(struct buf *buf)
{
        char *text;

        buf_add(buf, "", 0);
        text = buf->data;
        *buf = (struct buf){ 0 };
        return text;
}
