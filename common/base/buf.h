/* A growing byte buffer. One owner; buf_reset keeps the memory, buf_free releases it. */
#pragma once

#include "common/base/macros.h"

struct buf {
        char *data; /* always NUL-terminated once something was added */
        size_t length;
        size_t capacity;
};

void buf_add(struct buf *buf, const void *bytes, size_t length);
void buf_add_text(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF(2, 3);
void buf_reset(struct buf *buf);
void buf_free(struct buf *buf);
/* Returns the text (never NULL), which the caller frees, and leaves the buffer empty. */
char *buf_take(struct buf *buf);

#define auto_buf __attribute__((cleanup(buf_free))) struct buf
