/* Server-sent events: see sse.h. */
#include "cli/sse.h"

#include <string.h>

#define EVENT_LIMIT (4UL * 1024 * 1024)

static void sse_dispatch(struct sse *sse)
{
        if (sse->data.length > 0) {
                sse->data.data[--sse->data.length] = '\0'; /* the line end that the last data line added */
                sse->event(sse->context, sse->name.length ? sse->name.data : "message", sse->data.data,
                           sse->data.length);
        }
        buf_reset(&sse->name);
        buf_reset(&sse->data);
}

static const char *sse_value_of(const char *line, const char *field)
{
        size_t length = strlen(field);

        if (strncmp(line, field, length) != 0 || line[length] != ':')
                return NULL;
        return line + length + 1 + (line[length + 1] == ' ');
}

/* Our server does not use ids and retry times; comments (":") are its heartbeat. */
static void sse_take_line(struct sse *sse)
{
        const char *line = sse->line.data ? sse->line.data : "", *value;

        if (sse->line.length == 0) {
                sse_dispatch(sse);
        } else if ((value = sse_value_of(line, "event")) != NULL) {
                buf_reset(&sse->name);
                buf_add_text(&sse->name, value);
        } else if ((value = sse_value_of(line, "data")) != NULL) {
                buf_add(&sse->data, value, sse->line.length - (size_t)(value - line));
                buf_add(&sse->data, "\n", 1);
        }
        buf_reset(&sse->line);
}

bool sse_feed(struct sse *sse, const char *bytes, size_t length)
{
        while (length > 0 && !sse->failed) {
                size_t part = 0;

                if (sse->skip_line_feed && *bytes == '\n') { /* the second half of CR LF */
                        bytes++;
                        length--;
                }
                sse->skip_line_feed = false;
                while (part < length && bytes[part] != '\n' && bytes[part] != '\r')
                        part++;
                buf_add(&sse->line, bytes, part);
                sse->failed = sse->line.length + sse->data.length > EVENT_LIMIT;
                if (part == length)
                        break;
                sse->skip_line_feed = bytes[part] == '\r';
                sse_take_line(sse);
                bytes += part + 1;
                length -= part + 1;
        }
        return !sse->failed;
}

void sse_reset(struct sse *sse)
{
        buf_reset(&sse->line);
        buf_reset(&sse->name);
        buf_reset(&sse->data);
        sse->skip_line_feed = sse->failed = false;
}

void sse_free(struct sse *sse)
{
        buf_free(&sse->line);
        buf_free(&sse->name);
        buf_free(&sse->data);
}
