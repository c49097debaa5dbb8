/* Following the event stream: see stream.h. */
#include "cli/stream.h"

#include "cli/api.h"
#include "cli/curl_handle.h"
#include "cli/sse.h"
#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define FIRST_PAUSE_MS   200
#define LONGEST_PAUSE_MS 5000
#define SILENCE_SECONDS  40L /* the server sends a heartbeat every 15 s */
#define REFUSAL_LIMIT    65536

struct stream {
        const struct stream_events *events;
        void *context;
        struct curl_request curl;
        struct sse sse;
        struct buf refusal; /* the body of an answer that is not a stream */
        bool open, opened_before;
};

static void stream_event_arrived(void *context, const char *name, const char *data, size_t length)
{
        struct stream *stream = context;
        auto_json *value = NULL;

        if (json_parse(data, length, &value, NULL) == 0)
                stream->events->arrived(stream->context, name, value);
}

static size_t stream_bytes_arrived(char *bytes, size_t size, size_t count, void *context)
{
        struct stream *stream = context;
        long status = 0;

        curl_easy_getinfo(stream->curl.easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200) {
                if (stream->refusal.length < REFUSAL_LIMIT)
                        buf_add(&stream->refusal, bytes, size * count);
                return size * count;
        }
        if (!stream->open) {
                stream->open = stream->opened_before = true;
                stream->events->changed(stream->context, NULL);
        }
        return sse_feed(&stream->sse, bytes, size * count) ? size * count : 0;
}

/* By a signal, or because nobody reads our output any more. */
static bool stream_is_over(void)
{
        return cli_interrupted || terminal_reader_gone();
}

/* libcurl calls this about once a second and after each read; a nonzero result ends the transfer. */
static int stream_turned(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        struct stream *stream = context;

        (void)a, (void)b, (void)c, (void)d;
        stream->events->turned(stream->context);
        return stream_is_over();
}

static int stream_prepare(struct stream *stream, const char *path)
{
        int status = curl_request_init(&stream->curl, cli_setting("TENANTRY_URL"), path, cli_setting("TENANTRY_TOKEN"));

        if (status != EXIT_GOOD)
                return status;
        curl_request_header(&stream->curl, "Accept", "text/event-stream");
        curl_easy_setopt(stream->curl.easy, CURLOPT_WRITEFUNCTION, stream_bytes_arrived);
        curl_easy_setopt(stream->curl.easy, CURLOPT_WRITEDATA, stream);
        curl_easy_setopt(stream->curl.easy, CURLOPT_XFERINFOFUNCTION, stream_turned);
        curl_easy_setopt(stream->curl.easy, CURLOPT_XFERINFODATA, stream);
        curl_easy_setopt(stream->curl.easy, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(stream->curl.easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(stream->curl.easy, CURLOPT_LOW_SPEED_TIME, SILENCE_SECONDS);
        return EXIT_GOOD;
}

/* One connection, until it ends. answer is what came instead of a stream. */
static int stream_follow_once(struct stream *stream, const char *path, struct api_answer *answer)
{
        int status = stream_prepare(stream, path);
        CURLcode code;

        if (status != EXIT_GOOD)
                return status;
        sse_reset(&stream->sse);
        buf_reset(&stream->refusal);
        stream->open = false;
        code = curl_easy_perform(stream->curl.easy);
        if (code == CURLE_OK)
                curl_easy_getinfo(stream->curl.easy, CURLINFO_RESPONSE_CODE, &answer->status);
        snprintf(answer->away, sizeof(answer->away), "%s",
                 code == CURLE_OK ? "the gateway ended the stream" : curl_request_reason(&stream->curl, code));
        if (stream->refusal.length > 0 &&
            json_parse(stream->refusal.data, stream->refusal.length, &answer->body, NULL) < 0)
                answer->body = NULL;
        curl_request_free(&stream->curl);
        if (answer->status == 404)
                return EXIT_NOT_FOUND;
        return answer->status >= 400 && answer->status < 500 && answer->status != 429 ? EXIT_REFUSED : EXIT_AWAY;
}

static void stream_pause_for(int64_t ms)
{
        struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

        nanosleep(&pause, NULL); /* a signal ends it */
}

static int stream_go_on(struct stream *stream, const char *path)
{
        int64_t pause_ms = FIRST_PAUSE_MS;

        while (!stream_is_over()) {
                struct api_answer answer = { 0 };
                int status = stream_follow_once(stream, path, &answer);

                if (stream_is_over()) {
                        api_answer_release(&answer);
                        break;
                }
                if (status != EXIT_AWAY || !stream->opened_before) {
                        api_complain(&answer, status);
                        api_answer_release(&answer);
                        return status;
                }
                stream->events->changed(stream->context, answer.away);
                api_answer_release(&answer);
                pause_ms = stream->open ? FIRST_PAUSE_MS : MIN(LONGEST_PAUSE_MS, pause_ms * 2);
                stream_pause_for(pause_ms);
        }
        return EXIT_GOOD;
}

int stream_follow(const char *path, const struct stream_events *events, void *context)
{
        struct stream stream = { .events = events, .context = context };
        int status;

        if (cli_environment("TENANTRY_URL") == NULL)
                return EXIT_USAGE;
        stream.sse.event = stream_event_arrived;
        stream.sse.context = &stream;
        cli_catch_interrupt();
        status = stream_go_on(&stream, path);
        sse_free(&stream.sse);
        buf_free(&stream.refusal);
        return status;
}
