/* Event streams: text that is written over time to a peer that may be slow or gone. See http_server.h. */
#include "common/base/memory.h"
#include "common/net/http_private.h"

#include <string.h>

static void stream_wake(struct http_stream *stream)
{
        if (!stream->suspended)
                return;
        stream->suspended = false;
        MHD_resume_connection(stream->request->connection);
        http_run_soon(stream->request->server);
}

static size_t stream_waiting(const struct http_stream *stream)
{
        return stream->pending.length - stream->sent;
}

/* Sent bytes are dropped once they are more than half of the buffer: so each byte is moved once, and a peer that is
 * always a little behind costs no more than what is queued for it. */
static void stream_give_room(struct http_stream *stream)
{
        void (*drained)(void *context) = stream->drained;

        if (stream->sent > stream_waiting(stream)) {
                memmove(stream->pending.data, stream->pending.data + stream->sent, stream_waiting(stream));
                stream->pending.length -= stream->sent;
                stream->sent = 0;
        }
        if (drained != NULL && stream_waiting(stream) <= HTTP_STREAM_LOW) {
                stream->drained = NULL;
                drained(stream->context);
        }
}

static ssize_t stream_read(void *context, uint64_t position, char *out, size_t size)
{
        struct http_stream *stream = context;
        size_t length = MIN(size, stream_waiting(stream));

        (void)position;
        if (length > 0) {
                memcpy(out, stream->pending.data + stream->sent, length);
                stream->sent += length;
                stream_give_room(stream);
                return (ssize_t)length;
        }
        if (stream->ending)
                return MHD_CONTENT_READER_END_OF_STREAM;
        stream->suspended = true;
        MHD_suspend_connection(stream->request->connection);
        return 0;
}

struct http_stream *http_answer_stream(struct http_request *request, void (*closed)(void *context), void *context)
{
        struct http_stream *stream = NEW(struct http_stream);
        struct MHD_Response *response =
                MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_read, stream, NULL);

        stream->request = request;
        stream->closed = closed;
        stream->context = context;
        request->stream = stream;
        MHD_add_response_header(response, "Content-Type", "text/event-stream");
        MHD_add_response_header(response, "Cache-Control", "no-store");
        MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* proxies must not hold events back */
        http_send(request, 200, response);
        return stream;
}

bool http_stream_write(struct http_stream *stream, const char *text, size_t length)
{
        if (stream->ending || stream_waiting(stream) + length > HTTP_STREAM_LIMIT)
                return false;
        buf_add(&stream->pending, text, length);
        stream_wake(stream);
        return true;
}

size_t http_stream_room(const struct http_stream *stream)
{
        return HTTP_STREAM_LIMIT - MIN(stream_waiting(stream), HTTP_STREAM_LIMIT);
}

void http_stream_when_drained(struct http_stream *stream, void (*drained)(void *context))
{
        if (stream_waiting(stream) <= HTTP_STREAM_LOW)
                drained(stream->context);
        else
                stream->drained = drained;
}

void http_stream_end(struct http_stream *stream)
{
        stream->ending = true;
        stream_wake(stream);
}

void http_stream_release(struct http_stream *stream)
{
        stream->closed(stream->context);
        buf_free(&stream->pending);
        free(stream);
}
