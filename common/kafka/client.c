/* librdkafka settings and queues on our loop: see client.h. */
#include "common/kafka/client.h"

#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/kafka/properties.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define SERVE_INTERVAL 500

struct kafka_wakeup {
        uv_poll_t poll;
        uv_timer_t timer;
        int fd, handles;
        rd_kafka_queue_t *queue;
        void (*serve)(void *context);
        void *context;
};

void kafka_client_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
        char reason[256];
        rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, name, value, reason, sizeof(reason));

        assert(result == RD_KAFKA_CONF_OK);
        (void)result;
}

/* @locality librdkafka's threads. log_emit does one write per line and shares no state. */
static void client_log_line(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
        (void)rk;
        log_emit(level <= 4 ? LOG_WARN : LOG_DEBUG, "librdkafka", "facility", facility, "text", text, NULL);
}

int kafka_client_conf(const struct kafka_settings *settings, const struct kafka_default *defaults,
                      rd_kafka_conf_t **ret, struct err *err)
{
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        int rc;

        kafka_client_set(conf, "bootstrap.servers", settings->brokers);
        kafka_client_set(conf, "client.id", settings->client_id);
        kafka_client_set(conf, "socket.nagle.disable", "true");
        kafka_client_set(conf, "reconnect.backoff.ms", "50");
        kafka_client_set(conf, "reconnect.backoff.max.ms", "500");
        kafka_client_set(conf, "log.connection.close", "false");
        rd_kafka_conf_set_log_cb(conf, client_log_line);
        for (; defaults != NULL && defaults->name != NULL; defaults++)
                kafka_client_set(conf, defaults->name, defaults->value);
        rc = kafka_properties_set(conf, settings->properties, err);
        if (rc < 0)
                rd_kafka_conf_destroy(conf);
        else
                *ret = conf;
        return rc;
}

/* Only errors in KAFKA_PROPERTIES must be fixed by a person. If a thread could not be created, or did not start in time
 * on an overloaded machine, trying again may help. */
int kafka_client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, rd_kafka_t **ret, struct err *err)
{
        char reason[256];

        if (FAILPOINT(kafka_before_client, err) < 0) {
                rd_kafka_conf_destroy(conf);
                return -ERR_BUSY;
        }
        *ret = rd_kafka_new(type, conf, reason, sizeof(reason));
        if (*ret != NULL)
                return 0;
        rd_kafka_conf_destroy(conf);
        if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__INVALID_ARG)
                return err_field(err, "KAFKA_PROPERTIES", "librdkafka refuses KAFKA_PROPERTIES: %s", reason);
        return err_set(err, ERR_BUSY, "kafka_client", "librdkafka cannot start: %s", reason);
}

int kafka_client_check(const struct kafka_settings *settings, struct err *err)
{
        struct kafka_settings alone = *settings;
        rd_kafka_conf_t *conf;
        rd_kafka_t *rk;
        int rc;

        alone.brokers = ""; /* no broker is contacted */
        rc = kafka_client_conf(&alone, NULL, &conf, err);
        if (rc < 0)
                return rc;
        rc = kafka_client_new(RD_KAFKA_PRODUCER, conf, &rk, err);
        if (rc == 0)
                rd_kafka_destroy(rk);
        return rc;
}

char *kafka_client_advice(const struct kafka_settings *settings)
{
        rd_kafka_conf_t *conf;
        char *advice;

        if (kafka_client_conf(settings, NULL, &conf, NULL) < 0)
                return NULL;
        advice = kafka_properties_advice(conf);
        rd_kafka_conf_destroy(conf);
        return advice;
}

static void client_on_event(uv_poll_t *poll, int status, int events)
{
        struct kafka_wakeup *wakeup = poll->data;
        uint64_t ignored;

        (void)status;
        (void)events;
        if (read(wakeup->fd, &ignored, sizeof(ignored)) < 0)
                return;
        wakeup->serve(wakeup->context);
}

/* Even without events: librdkafka expects regular polls, and a missed wake-up would delay events. */
static void client_on_timer(uv_timer_t *timer)
{
        struct kafka_wakeup *wakeup = timer->data;

        wakeup->serve(wakeup->context);
}

struct kafka_wakeup *kafka_wakeup_new(uv_loop_t *loop, rd_kafka_queue_t *queue, void (*serve)(void *context),
                                      void *context)
{
        struct kafka_wakeup *wakeup = NEW(struct kafka_wakeup);

        wakeup->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        assert(wakeup->fd >= 0);
        wakeup->queue = queue;
        wakeup->serve = serve;
        wakeup->context = context;
        wakeup->handles = 2;
        rd_kafka_queue_io_event_enable(queue, wakeup->fd, &(uint64_t){ 1 }, sizeof(uint64_t));
        uv_poll_init(loop, &wakeup->poll, wakeup->fd);
        uv_timer_init(loop, &wakeup->timer);
        wakeup->poll.data = wakeup->timer.data = wakeup;
        uv_poll_start(&wakeup->poll, UV_READABLE, client_on_event);
        uv_timer_start(&wakeup->timer, client_on_timer, SERVE_INTERVAL, SERVE_INTERVAL);
        uv_unref((uv_handle_t *)&wakeup->timer);
        uv_unref((uv_handle_t *)&wakeup->poll);
        return wakeup;
}

static void client_on_closed(uv_handle_t *handle)
{
        struct kafka_wakeup *wakeup = handle->data;

        if (--wakeup->handles > 0)
                return;
        close(wakeup->fd);
        free(wakeup);
}

void kafka_wakeup_free(struct kafka_wakeup *wakeup)
{
        if (wakeup == NULL)
                return;
        rd_kafka_queue_io_event_enable(wakeup->queue, -1, NULL, 0);
        uv_close((uv_handle_t *)&wakeup->poll, client_on_closed);
        uv_close((uv_handle_t *)&wakeup->timer, client_on_closed);
}

struct destroy {
        uv_work_t work;
        rd_kafka_t *rk;
};

static void client_destroy(uv_work_t *work)
{
        rd_kafka_destroy(CONTAINER_OF(work, struct destroy, work)->rk);
}

static void client_destroyed(uv_work_t *work, int status)
{
        (void)status;
        free(CONTAINER_OF(work, struct destroy, work));
}

void kafka_client_destroy_later(uv_loop_t *loop, rd_kafka_t *rk)
{
        struct destroy *destroy = NEW(struct destroy);

        destroy->rk = rk;
        uv_queue_work(loop, &destroy->work, client_destroy, client_destroyed);
}
