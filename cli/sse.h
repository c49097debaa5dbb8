/* Server-sent events (WHATWG HTML, section 9.2) from bytes as they come. */
#pragma once

#include "common/base/buf.h"

struct sse {
        struct buf line, name, data;
        bool skip_line_feed, failed;
        void (*event)(void *context, const char *name, const char *data, size_t length);
        void *context;
};

/* Calls event for each whole event. Returns false once a line or an event is longer than its limit. */
bool sse_feed(struct sse *sse, const char *bytes, size_t length);
/* Discards a partially read event: a new connection begins. */
void sse_reset(struct sse *sse);
void sse_free(struct sse *sse);
