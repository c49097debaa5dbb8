/* An idempotent Kafka producer: see producer.h. */
#include "common/kafka/producer.h"

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/kafka/cause.h"

#include <stdio.h>
#include <string.h>

#define PRODUCER_MAGIC 0x6b706d31
#define TOPIC_LIMIT    16
#define PROBE_TIMEOUT  1000
#define PURGE_TIMEOUT  500
#define LARGEST        "4194304"

struct kafka_producer {
        unsigned magic;
        uv_loop_t *loop;
        rd_kafka_t *rk;
        rd_kafka_queue_t *queue;
        struct kafka_wakeup *wakeup;
        rd_kafka_topic_t *topics[TOPIC_LIMIT];
        size_t topic_count, pending;
        bool up, probing, found, freed;
        struct kafka_cause cause; /* why it is not up */
        uv_work_t probe;
        void (*fatal)(void *context, const struct err *err);
        void *fatal_context;
};

/* The callback of one message. */
struct delivery {
        kafka_delivered_fn delivered;
        void *context;
};

/* Only this topic is affected. */
static bool producer_is_about_topic(rd_kafka_resp_err_t code)
{
        return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
               code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED || code == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION ||
               code == RD_KAFKA_RESP_ERR__INVALID_ARG;
}

static void producer_error_of_code(rd_kafka_resp_err_t code, rd_kafka_msg_status_t status, struct err *err)
{
        if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
                err_set(err, ERR_INPUT, "too_large", "Kafka refuses the message: it is too large");
        else if (producer_is_about_topic(code))
                err_set(err, ERR_BUSY, "topic_refused", "Kafka accepts nothing for this topic: %s",
                        rd_kafka_err2str(code));
        else if (status == RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED)
                err_set(err, ERR_BUSY, "outcome_unknown", "Kafka may or may not have taken the message: %s",
                        rd_kafka_err2str(code));
        else
                err_set(err, ERR_BUSY, "kafka_away", "Kafka did not take the message: %s", rd_kafka_err2str(code));
}

static void producer_brokers_answered(struct kafka_producer *producer)
{
        producer->up = true;
        kafka_cause_forget(&producer->cause);
}

static void producer_answer(struct kafka_producer *producer, const rd_kafka_message_t *message)
{
        struct delivery *delivery = message->_private;
        struct err err;

        producer->pending--;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                producer_brokers_answered(producer);
                delivery->delivered(delivery->context, NULL);
        } else {
                producer_error_of_code(message->err, rd_kafka_message_status(message), &err);
                delivery->delivered(delivery->context, &err);
        }
        free(delivery);
}

static void producer_handle_error(struct kafka_producer *producer, rd_kafka_event_t *event)
{
        rd_kafka_resp_err_t code = rd_kafka_event_error(event);
        char reason[256];
        struct err err;

        kafka_cause_note(&producer->cause, code, rd_kafka_event_error_string(event));
        if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
                producer->up = false;
        if (!rd_kafka_event_error_is_fatal(event))
                return;
        rd_kafka_fatal_error(producer->rk, reason, sizeof(reason));
        err_set(&err, ERR_INTERNAL, "kafka_fatal", "the Kafka producer cannot continue: %s", reason);
        producer->fatal(producer->fatal_context, &err);
}

static void producer_destroy(struct kafka_producer *producer)
{
        for (size_t i = 0; i < producer->topic_count; i++)
                rd_kafka_topic_destroy(producer->topics[i]);
        rd_kafka_queue_destroy(producer->queue);
        kafka_client_destroy_later(producer->loop, producer->rk);
        producer->magic = 0;
        free(producer);
}

/* Requesting metadata blocks, so a worker thread does it. */
static void producer_look_for_brokers(uv_work_t *work)
{
        struct kafka_producer *producer = CONTAINER_OF(work, struct kafka_producer, probe);
        const struct rd_kafka_metadata *metadata = NULL;

        producer->found =
                rd_kafka_metadata(producer->rk, 0, NULL, &metadata, PROBE_TIMEOUT) == RD_KAFKA_RESP_ERR_NO_ERROR;
        if (metadata != NULL)
                rd_kafka_metadata_destroy(metadata);
}

static void producer_brokers_looked_for(uv_work_t *work, int status)
{
        struct kafka_producer *producer = CONTAINER_OF(work, struct kafka_producer, probe);

        producer->probing = false;
        if (status == 0 && producer->found)
                producer_brokers_answered(producer);
        if (producer->freed)
                producer_destroy(producer);
}

/* Without messages nothing would show that the brokers are back, and a service that is not ready gets no messages. */
static void producer_probe_if_down(struct kafka_producer *producer)
{
        if (producer->up || producer->probing)
                return;
        producer->probing = uv_queue_work(producer->loop, &producer->probe, producer_look_for_brokers,
                                          producer_brokers_looked_for) == 0;
}

/* Takes ownership of the event. */
static void producer_handle(struct kafka_producer *producer, rd_kafka_event_t *event)
{
        const rd_kafka_message_t *message;

        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
                while ((message = rd_kafka_event_message_next(event)) != NULL)
                        producer_answer(producer, message);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
                producer_handle_error(producer, event);
        rd_kafka_event_destroy(event);
}

static void producer_serve(void *context)
{
        struct kafka_producer *producer = context;
        rd_kafka_event_t *event;

        CHECK_MAGIC(producer, PRODUCER_MAGIC);
        while ((event = rd_kafka_queue_poll(producer->queue, 0)) != NULL)
                producer_handle(producer, event);
        producer_probe_if_down(producer);
}

/* At the end, without the loop: each delivery report is served as it comes. rd_kafka_flush would wait for reports that
 * only we serve. */
static void producer_answer_for(struct kafka_producer *producer, int64_t ms)
{
        int64_t until = clock_boot_ms() + ms;
        rd_kafka_event_t *event;

        while (producer->pending > 0 && clock_boot_ms() < until)
                if ((event = rd_kafka_queue_poll(producer->queue, 20)) != NULL)
                        producer_handle(producer, event);
}

int kafka_producer_new(uv_loop_t *loop, const struct kafka_settings *settings, int message_timeout_ms,
                       const char *const *topics, void (*fatal)(void *context, const struct err *err), void *context,
                       struct kafka_producer **ret, struct err *err)
{
        struct kafka_producer *producer;
        rd_kafka_conf_t *conf;
        char timeout[16], patience[16];
        int rc = kafka_client_conf(settings, NULL, &conf, err);

        if (rc < 0)
                return rc;
        snprintf(timeout, sizeof(timeout), "%d", message_timeout_ms);
        snprintf(patience, sizeof(patience), "%d", message_timeout_ms / 4);
        kafka_client_set(conf, "enable.idempotence", "true");
        kafka_client_set(conf, "linger.ms", "1");
        kafka_client_set(conf, "partitioner", "murmur2_random");
        kafka_client_set(conf, "message.timeout.ms", timeout);
        /* So that a missing topic is reported as such before its messages time out. */
        kafka_client_set(conf, "topic.metadata.propagation.max.ms", patience);
        kafka_client_set(conf, "queue.buffering.max.messages", "200000");
        kafka_client_set(conf, "message.max.bytes", LARGEST); /* dead letters can be as large as the broker accepts */
        rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
        producer = NEW(struct kafka_producer);
        producer->magic = PRODUCER_MAGIC;
        producer->loop = loop;
        producer->fatal = fatal;
        producer->fatal_context = context;
        producer->up = true;
        rc = kafka_client_new(RD_KAFKA_PRODUCER, conf, &producer->rk, err);
        if (rc < 0) {
                free(producer);
                return rc;
        }
        producer->queue = rd_kafka_queue_get_main(producer->rk);
        producer->wakeup = kafka_wakeup_new(loop, producer->queue, producer_serve, producer);
        for (; topics[producer->topic_count] != NULL; producer->topic_count++) {
                assert(producer->topic_count < TOPIC_LIMIT);
                producer->topics[producer->topic_count] =
                        rd_kafka_topic_new(producer->rk, topics[producer->topic_count], NULL);
        }
        *ret = producer;
        return 0;
}

void kafka_producer_free(struct kafka_producer *producer, int timeout_ms)
{
        if (producer == NULL)
                return;
        CHECK_MAGIC(producer, PRODUCER_MAGIC);
        producer_answer_for(producer, timeout_ms);
        rd_kafka_purge(producer->rk,
                       RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
        producer_answer_for(producer, PURGE_TIMEOUT);
        kafka_wakeup_free(producer->wakeup);
        producer->freed = true;
        if (!producer->probing)
                producer_destroy(producer); /* else producer_brokers_looked_for does */
}

static rd_kafka_headers_t *producer_copy_headers(const struct kafka_record *record)
{
        rd_kafka_headers_t *headers = rd_kafka_headers_new(record->header_count);

        for (size_t i = 0; i < record->header_count; i++)
                rd_kafka_header_add(headers, record->headers[i].name, -1, record->headers[i].value,
                                    (ssize_t)record->headers[i].length);
        return headers;
}

int kafka_produce(struct kafka_producer *producer, const struct kafka_record *record, kafka_delivered_fn delivered,
                  void *context, struct err *err)
{
        struct delivery *delivery = NEW(struct delivery);
        rd_kafka_headers_t *headers = record->header_count ? producer_copy_headers(record) : NULL;
        rd_kafka_resp_err_t code;
        struct err refused;

        CHECK_MAGIC(producer, PRODUCER_MAGIC);
        delivery->delivered = delivered;
        delivery->context = context;
        if (FAILPOINT(kafka_before_produce, NULL) < 0) /* as if a broker had lost what it had acknowledged */
                rd_kafka_test_fatal_error(producer->rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a failpoint");
        code = rd_kafka_producev(producer->rk, RD_KAFKA_V_TOPIC(record->topic),
                                 RD_KAFKA_V_KEY((void *)(uintptr_t)record->key, record->key_length),
                                 RD_KAFKA_V_VALUE((void *)(uintptr_t)record->value, record->value_length),
                                 RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                 RD_KAFKA_V_OPAQUE(delivery), RD_KAFKA_V_END);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
                producer->pending++;
                return 0;
        }
        if (headers != NULL)
                rd_kafka_headers_destroy(headers);
        free(delivery);
        producer_error_of_code(code, RD_KAFKA_MSG_STATUS_NOT_PERSISTED, &refused);
        if (err != NULL)
                *err = refused;
        return -(int)refused.class;
}

int kafka_producer_check(const struct kafka_producer *producer, struct err *err)
{
        if (producer->up)
                return 0;
        *err = producer->cause.err;
        return -(int)err->class;
}
