/* Server-sent events of snapshots: see streams.h. A watcher ignores versions lower than one it has seen, for the
 * first state and the changes may overlap. */
#include "services/gateway/streams.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/kafka/consumer.h"
#include "services/gateway/pending.h"
#include "services/gateway/reading.h"

#include <string.h>
#include <utlist.h>

#define STREAM_LIMIT       1000
#define HEARTBEAT_INTERVAL SECONDS(15)
#define PAGE               500
#define ROOM_FOR_CHANGES   (512 * 1024) /* those that arrive while the initial state is still being sent */

static char *stream_tenant_gone(const char *key)
{
        return mem_printf("{\"tenant_id\":\"%s\",\"state\":\"deprovisioned\"}", key);
}

const struct stream_source STREAM_OF_TENANTS = {
        .topic = "tenant.status.v1",
        .event = "status",
        .scope = SCOPE_READ,
        .parameter = "tenant_id",
        .sql = "select tenant_id as key, snapshot from gateway.tenant "
               "where snapshot is not null and ($1::uuid is null or tenant_id = $1::uuid) "
               "and ($2::uuid is null or tenant_id > $2::uuid) "
               "order by tenant_id limit $3::int",
        .gone = stream_tenant_gone,
};

static char *stream_run_gone(const char *key)
{
        return mem_printf("{\"run_id\":\"%s\"}", key);
}

const struct stream_source STREAM_OF_RUNS = {
        .topic = "migration.runs.v1",
        .event = "run",
        .scope = SCOPE_ADMIN,
        .parameter = "run_id",
        .sql = "select run_id as key, snapshot from gateway.migration_snapshot "
               "where ($1::uuid is null or run_id = $1::uuid) and ($2::uuid is null or run_id > $2::uuid) "
               "order by run_id limit $3::int",
        .gone = stream_run_gone,
};

struct watcher {
        struct watcher *prev, *next;
        struct streams *streams;
        struct http_stream *stream; /* NULL once the peer has gone */
        struct crypto_digest token; /* the one it was opened with */
        char *key;                  /* NULL = all */
        char *after;                /* the last key of the initial state that was sent */
        bool reading, live;         /* live: it has all of the initial state */
        bool missed;                /* a change before it was live: the initial state is read again */
};

struct streams {
        struct gateway *gateway;
        const struct stream_source *source;
        struct kafka_consumer *tail;
        struct watcher *watchers;
        size_t count;
        uv_timer_t heartbeat;
        struct metric *open;
        bool following; /* the tail is on its partitions: from here on no change is missed */
};

static void stream_free_watcher(struct watcher *watcher)
{
        DL_DELETE(watcher->streams->watchers, watcher);
        watcher->streams->count--;
        metric_add(watcher->streams->open, -1);
        free(watcher->key);
        free(watcher->after);
        free(watcher);
}

static void stream_closed(void *context)
{
        struct watcher *watcher = context;

        watcher->stream = NULL;
        if (!watcher->reading)
                stream_free_watcher(watcher);
}

static bool stream_try_to_write(struct watcher *watcher, const char *name, const char *data, size_t length)
{
        auto_buf text = { 0 };

        if (watcher->stream == NULL)
                return false;
        buf_printf(&text, "event: %s\ndata: ", name);
        buf_add(&text, data, length);
        buf_add_text(&text, "\n\n");
        return http_stream_write(watcher->stream, text.data, text.length);
}

/* A watcher that is too slow is disconnected; it comes back and gets a fresh state. One that does not even have the
 * initial state yet, because changes come in thousands, gets it once more. */
static void stream_write_change(struct watcher *watcher, const char *data, size_t length)
{
        if (stream_try_to_write(watcher, watcher->streams->source->event, data, length) || watcher->stream == NULL)
                return;
        if (watcher->live)
                http_stream_end(watcher->stream);
        else
                watcher->missed = true;
}

static void stream_read_state(void *context);

/* As many as there is room for: a page may hold more than a stream may queue. Returns how many. */
static int stream_write_states(struct watcher *watcher, const struct pg_rows *rows, int count)
{
        int written = 0;

        while (written < count && http_stream_room(watcher->stream) > ROOM_FOR_CHANGES) {
                const char *snapshot = pg_text(rows, written, "snapshot");

                if (!stream_try_to_write(watcher, watcher->streams->source->event, snapshot, strlen(snapshot)))
                        break;
                written++;
        }
        if (written > 0) {
                free(watcher->after);
                watcher->after = mem_copy_text(pg_text(rows, written - 1, "key"));
        }
        return written;
}

static void stream_state_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct watcher *watcher = context;
        int count = err ? 0 : pg_rows_count(rows), written;

        watcher->reading = false;
        if (watcher->stream == NULL) {
                stream_free_watcher(watcher);
                return;
        }
        if (err != NULL) {
                http_stream_end(watcher->stream);
                return;
        }
        written = stream_write_states(watcher, rows, count);
        if (written == count && count < PAGE && watcher->missed) {
                watcher->missed = false;
                free(TAKE_PTR(watcher->after));
        } else if (written == count && count < PAGE) {
                watcher->live = stream_try_to_write(watcher, "live", "{}", 2); /* from here on: changes */
        }
        if (!watcher->live) /* sends the next ones when the peer has read most of these */
                http_stream_when_drained(watcher->stream, stream_read_state);
}

/* A change to a tenant that is still to be read from the catalog need not be sent: the catalog's answer will be as
 * new. */
static bool stream_is_still_to_come(const struct watcher *watcher, const char *key)
{
        return !watcher->live && !watcher->reading && watcher->after != NULL && strcmp(key, watcher->after) > 0;
}

static void stream_read_state(void *context)
{
        struct watcher *watcher = context;
        char limit[8];

        snprintf(limit, sizeof(limit), "%d", PAGE);
        watcher->reading = true;
        pg_pool_exec(watcher->streams->gateway->service->catalog, SECONDS(5), watcher->streams->source->sql,
                     PARAMS(watcher->key, watcher->after, limit), stream_state_arrived, watcher);
}

void streams_open(struct streams *streams, struct http_request *request)
{
        const char *parameter = streams->source->parameter, *key = http_query(request, parameter);
        const char *bearer = http_header(request, "Authorization");
        struct watcher *watcher;

        if (key != NULL && !id_is_valid(key)) {
                auto_free char *wrong = mem_printf("%s is not a UUID in lower case", parameter);

                http_answer_problem(request, 400, "invalid_field", parameter, wrong);
                return;
        }
        if (!streams->following || !pg_pool_is_up(streams->gateway->service->catalog) ||
            streams->count >= STREAM_LIMIT) {
                http_answer_header(request, "Retry-After", "2");
                http_answer_problem(request, 503, "not_now", NULL, "no stream can be opened now; try again");
                return;
        }
        watcher = NEW(struct watcher);
        watcher->streams = streams;
        crypto_sha256(bearer + strlen("Bearer "), strlen(bearer) - strlen("Bearer "), &watcher->token);
        watcher->key = mem_copy_text(key);
        DL_APPEND(streams->watchers, watcher);
        streams->count++;
        metric_add(streams->open, 1);
        watcher->stream = http_answer_stream(request, stream_closed, watcher);
        stream_read_state(watcher);
}

void stream_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        streams_open(gateway->streams, request);
}

void migration_stream_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        streams_open(gateway->run_streams, request);
}

static void streams_status_arrived(void *context, struct kafka_message *message)
{
        struct streams *streams = context;
        auto_free char *key = mem_copy_bytes(message->key, message->key_length);
        struct watcher *watcher, *next;

        DL_FOREACH_SAFE (streams->watchers, watcher, next) {
                if ((watcher->key != NULL && strcmp(watcher->key, key) != 0) || stream_is_still_to_come(watcher, key))
                        continue;
                if (message->value != NULL) {
                        stream_write_change(watcher, message->value, message->value_length);
                } else {
                        auto_free char *gone = streams->source->gone(key);

                        stream_write_change(watcher, gone, strlen(gone));
                }
        }
        kafka_consumer_done(streams->tail, message);
}

static void streams_tail_assigned(void *context, unsigned assignment, struct kafka_position *positions, size_t count)
{
        struct streams *streams = context;

        kafka_consumer_start(streams->tail, assignment, positions, count);
        streams->following = true;
}

void streams_end_refused(struct streams *streams)
{
        struct watcher *watcher, *next;

        DL_FOREACH_SAFE (streams->watchers, watcher, next)
                if (watcher->stream != NULL &&
                    !tokens_allow(streams->gateway->tokens, watcher->token.bytes, streams->source->scope))
                        http_stream_end(watcher->stream);
}

static void streams_kafka_in_trouble(void *context, const struct err *err)
{
        struct streams *streams = context;

        log_warn("changes cannot be followed", "topic", streams->source->topic, "code", err->code, "error",
                 err->message, NULL);
}

static void streams_following_ended(void *context, const struct err *err)
{
        struct streams *streams = context;

        service_give_up(streams->gateway->service, err);
}

static void streams_on_heartbeat(uv_timer_t *timer)
{
        struct streams *streams = timer->data;
        struct watcher *watcher, *next;

        DL_FOREACH_SAFE (streams->watchers, watcher, next)
                if (watcher->stream != NULL && !http_stream_write(watcher->stream, ": still here\n\n", 14))
                        http_stream_end(watcher->stream);
}

struct streams *streams_new(struct gateway *gateway, const struct stream_source *source, struct err *err)
{
        static const struct kafka_consumer_events events = {
                .assigned = streams_tail_assigned,
                .message = streams_status_arrived,
                .trouble = streams_kafka_in_trouble,
                .fatal = streams_following_ended,
        };
        struct streams *streams = NEW(struct streams);

        streams->gateway = gateway;
        streams->source = source;
        streams->open = metric_gauge("tenantry_streams_open", NULL, "Open event streams.");
        if (kafka_consumer_tail(&gateway->service->loop, &gateway->service->kafka, source->topic, &events, streams,
                                &streams->tail, err) < 0) {
                free(streams);
                return NULL;
        }
        uv_timer_init(&gateway->service->loop, &streams->heartbeat);
        streams->heartbeat.data = streams;
        uv_timer_start(&streams->heartbeat, streams_on_heartbeat, HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        return streams;
}

static void streams_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void streams_free(struct streams *streams)
{
        if (streams == NULL)
                return;
        kafka_consumer_free(streams->tail);
        uv_close((uv_handle_t *)&streams->heartbeat, streams_closed);
}
