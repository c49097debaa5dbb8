/* The bare cost of ingest: the same messages handed to Kafka with nothing before it, acks=all, so many in flight. */
#include "bench/histogram.h"
#include "bench/signup_body.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define IN_FLIGHT_LIMIT 10000

struct slot {
        int64_t began;
        char value[BODY_BYTES];
};

static struct histogram histogram;
static struct signup_body body;
static rd_kafka_topic_t *topic;
static rd_kafka_t *producer;
static int64_t measure_from, measure_until, outstanding;
static uint64_t next_number, failed;

static int64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void give_up(const char *what)
{
        fprintf(stderr, "produce: %s\n", what);
        exit(2);
}

/* Key and headers as the gateway writes them. */
static void send_next(struct slot *slot)
{
        char key[37], id[37];
        uint64_t number = next_number++;
        rd_kafka_headers_t *headers = rd_kafka_headers_new(9);

        snprintf(key, sizeof(key), "%08llx-0000-8000-8000-%012llx",
                 (unsigned long long)(number * 2654435761u & 0xffffffffu),
                 (unsigned long long)number & 0xffffffffffffULL);
        snprintf(id, sizeof(id), "%08llx-0000-8000-9000-%012llx", (unsigned long long)number >> 32,
                 (unsigned long long)number & 0xffffffffffffULL);
        rd_kafka_header_add(headers, "ce_specversion", -1, "1.0", -1);
        rd_kafka_header_add(headers, "ce_id", -1, id, -1);
        rd_kafka_header_add(headers, "ce_source", -1, "/tenantry/gateway", -1);
        rd_kafka_header_add(headers, "ce_type", -1, "tenant.signup.requested.v1", -1);
        rd_kafka_header_add(headers, "ce_time", -1, "2026-01-01T00:00:00.000Z", -1);
        rd_kafka_header_add(headers, "ce_partitionkey", -1, key, -1);
        rd_kafka_header_add(headers, "ce_subject", -1, key, -1);
        rd_kafka_header_add(headers, "ce_traceparent", -1, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                            -1);
        rd_kafka_header_add(headers, "content-type", -1, "application/json", -1);
        body_number(&body, slot->value, number);
        slot->began = now_ns();
        if (rd_kafka_producev(producer, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_KEY(key, strlen(key)),
                              RD_KAFKA_V_VALUE(slot->value, BODY_BYTES), RD_KAFKA_V_HEADERS(headers),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(slot), RD_KAFKA_V_END) != 0)
                give_up("the message was not taken");
        outstanding++;
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
        struct slot *slot = message->_private;
        int64_t now = now_ns();

        (void)rk;
        (void)opaque;
        outstanding--;
        if (message->err)
                failed++;
        else if (slot->began >= measure_from && now < measure_until)
                histogram_add(&histogram, (uint64_t)(now - slot->began) / 1000);
        if (now < measure_until)
                send_next(slot);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
        char reason[256];

        if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)) != RD_KAFKA_CONF_OK)
                give_up(reason);
}

static void open_producer(const char *brokers, const char *name)
{
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        char reason[256];

        if (strncmp(brokers, "127.", 4) != 0 || strchr(brokers, ',') != NULL)
                give_up("only a broker at a loopback address (127.x.x.x) is loaded");
        set(conf, "bootstrap.servers", brokers);
        set(conf, "enable.idempotence", "true"); /* implies acks=all */
        set(conf, "linger.ms", "1");
        set(conf, "socket.nagle.disable", "true");
        set(conf, "partitioner", "murmur2_random");
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
        producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof(reason));
        if (producer == NULL)
                give_up(reason);
        topic = rd_kafka_topic_new(producer, name, NULL);
}

static void run(struct slot *slots, int in_flight, int warmup, int seconds)
{
        bool told = false;

        measure_from = now_ns() + warmup * 1000000000LL;
        measure_until = measure_from + seconds * 1000000000LL;
        for (int i = 0; i < in_flight; i++)
                send_next(&slots[i]);
        while (outstanding > 0 && now_ns() < measure_until + 20000000000LL) {
                rd_kafka_poll(producer, 100);
                if (!told && now_ns() >= measure_from) {
                        puts("measuring");
                        told = true;
                }
        }
}

int main(int argc, char **argv)
{
        struct slot *slots;
        int in_flight, warmup, seconds;

        if (argc != 6)
                give_up("BROKER TOPIC IN_FLIGHT WARMUP_SECONDS SECONDS");
        in_flight = atoi(argv[3]);
        warmup = atoi(argv[4]);
        seconds = atoi(argv[5]);
        if (in_flight < 1 || in_flight > IN_FLIGHT_LIMIT || warmup < 0 || seconds < 1 || warmup + seconds > 3600)
                give_up("a number is out of its range");
        setvbuf(stdout, NULL, _IOLBF, 0);
        body_make(&body);
        slots = calloc((size_t)in_flight, sizeof(*slots));
        if (slots == NULL)
                give_up("no memory");
        for (int i = 0; i < in_flight; i++)
                memcpy(slots[i].value, body.text, BODY_BYTES);
        next_number = (uint64_t)time(NULL) << 32 | (uint64_t)(getpid() & 0xff) << 24;
        open_producer(argv[1], argv[2]);
        run(slots, in_flight, warmup, seconds);
        printf("{\"requests\": %llu, \"seconds\": %d, \"per_second\": %.1f, \"failed\": %llu, ",
               (unsigned long long)histogram.count, seconds, (double)histogram.count / seconds,
               (unsigned long long)failed);
        histogram_print(&histogram);
        printf("}\n");
        return failed > 0;
}
