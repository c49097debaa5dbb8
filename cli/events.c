/* `tenantry events tail`: follows the history directly from Kafka; works while gateway and catalog are down. */
#include "cli/api.h"
#include "cli/brokers.h"
#include "cli/story.h"
#include "cli/terminal.h"
#include "common/base/id.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define TOPIC           "tenant.events.v1"
#define POLL_MS         200
#define PARTITION_LIMIT 1000

struct tail {
        const char *tenant; /* NULL = all */
        int64_t left;       /* to print; negative = no limit */
        bool away;
};

static char *events_header(const rd_kafka_message_t *message, const char *name)
{
        rd_kafka_headers_t *headers;
        const void *value;
        size_t length;

        if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
            rd_kafka_header_get_last(headers, name, &value, &length) != RD_KAFKA_RESP_ERR_NO_ERROR || value == NULL)
                return NULL;
        return mem_copy_bytes(value, length);
}

static json_t *events_headers_of(const rd_kafka_message_t *message)
{
        json_t *object = json_object();
        rd_kafka_headers_t *headers;
        const char *name;
        const void *value;
        size_t length;

        if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return object;
        for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &length) == RD_KAFKA_RESP_ERR_NO_ERROR;
             i++)
                json_object_set_new(object, name, value ? json_stringn(value, length) : json_null());
        return object;
}

/* The event as it is in Kafka; data that is not JSON is shown as text. */
static void events_print_raw(const rd_kafka_message_t *message, json_t *data)
{
        auto_free char *key = message->key ? text_safe_bytes(message->key, message->key_len, false) : NULL;
        auto_free char *text = text_safe_bytes(message->payload ? message->payload : "", message->len, true);
        auto_json *whole =
                json_pack("{s:s, s:i, s:I, s:s?, s:o, s:o}", "topic", TOPIC, "partition", (int)message->partition,
                          "offset", (json_int_t)message->offset, "key", key, "headers", events_headers_of(message),
                          "data", data ? json_incref(data) : json_string(text));

        print_json_line(whole);
}

static void events_print_line(const rd_kafka_message_t *message, const json_t *data)
{
        auto_free char *type = events_header(message, "ce_type"), *at = events_header(message, "ce_time");
        auto_free char *key = message->key ? text_safe_bytes(message->key, message->key_len, false) : NULL;
        auto_free char *time = text_time(at), *effect = story_effect(type ? type : "(no type)", data);

        printf("%s  %s  %s\n", time, key ? key : "-", effect);
        fflush(stdout);
}

static void events_print_message(struct tail *tail, const rd_kafka_message_t *message)
{
        auto_json *data = NULL;

        if (tail->tenant != NULL &&
            (message->key_len != strlen(tail->tenant) || memcmp(message->key, tail->tenant, message->key_len) != 0))
                return;
        if (message->payload == NULL || json_parse(message->payload, message->len, &data, NULL) < 0)
                data = NULL;
        if (cli_json)
                events_print_raw(message, data);
        else
                events_print_line(message, data);
        tail->left -= tail->left > 0;
}

/* Where we start in each partition. The ends are resolved now, so that nothing produced from now on is missed. */
static int events_positions(rd_kafka_t *rk, bool from_beginning, rd_kafka_topic_partition_list_t **ret)
{
        const struct rd_kafka_metadata *metadata;
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, TOPIC, NULL);
        rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, topic, &metadata, BROKERS_TIMEOUT_MS);
        int64_t low, high;
        int count;

        rd_kafka_topic_destroy(topic);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
                return cli_fail(EXIT_AWAY, "Kafka at %s cannot be reached: %s", cli_setting("KAFKA_BROKERS"),
                                rd_kafka_err2str(code));
        code = metadata->topics[0].err;
        count = MIN(metadata->topics[0].partition_cnt, PARTITION_LIMIT);
        rd_kafka_metadata_destroy(metadata);
        if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
                return cli_fail(EXIT_REFUSED, "Kafka does not allow us to read " TOPIC ": %s", rd_kafka_err2str(code));
        if (count == 0)
                return cli_fail(EXIT_NOT_FOUND, "there is no topic " TOPIC ": run `tenantry init`");
        *ret = rd_kafka_topic_partition_list_new(count);
        for (int32_t i = 0; i < count; i++) {
                code = rd_kafka_query_watermark_offsets(rk, TOPIC, i, &low, &high, BROKERS_TIMEOUT_MS);
                if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
                        rd_kafka_topic_partition_list_destroy(TAKE_PTR(*ret));
                        return cli_fail(EXIT_AWAY, "Kafka: partition %d of " TOPIC ": %s", i, rd_kafka_err2str(code));
                }
                rd_kafka_topic_partition_list_add(*ret, TOPIC, i)->offset = from_beginning ? low : high;
        }
        return EXIT_GOOD;
}

/* librdkafka reconnects automatically: losing the brokers is reported, but not fatal. */
static void events_note_error(struct tail *tail, const rd_kafka_message_t *message)
{
        if (message->err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && !tail->away)
                fputs("tenantry: Kafka is down; waiting for it\n", stderr);
        tail->away = true;
}

static void events_follow(rd_kafka_t *rk, struct tail *tail)
{
        while (!cli_interrupted && tail->left != 0 && !terminal_reader_gone()) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, POLL_MS);

                if (message == NULL)
                        continue;
                if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                        tail->away = false;
                        events_print_message(tail, message);
                } else {
                        events_note_error(tail, message);
                }
                rd_kafka_message_destroy(message);
        }
}

static int events_tail(struct tail *tail, bool from_beginning)
{
        rd_kafka_topic_partition_list_t *list = NULL;
        rd_kafka_t *rk;
        int status = brokers_open(RD_KAFKA_CONSUMER, &rk);

        if (status != EXIT_GOOD)
                return status;
        status = brokers_demand(rk);
        rd_kafka_poll_set_consumer(rk);
        if (status == EXIT_GOOD)
                status = events_positions(rk, from_beginning, &list);
        if (status == EXIT_GOOD) {
                rd_kafka_assign(rk, list);
                rd_kafka_topic_partition_list_destroy(list);
                fprintf(stderr, "following %s from its %s\n", TOPIC, from_beginning ? "beginning" : "end");
                events_follow(rk, tail);
                rd_kafka_assign(rk, NULL);
        }
        rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        return status;
}

int run_events(int argc, char **argv)
{
        const char *count = cli_option(&argc, argv, "count"), *tenant = cli_option(&argc, argv, "tenant");
        struct tail tail = { .left = -1 };
        bool from_beginning = cli_flag(&argc, argv, "from-beginning");
        struct id id;
        int status = EXIT_GOOD;

        if (argc < 2 || strcmp(argv[1], "tail") != 0)
                return cli_usage("events", "use `events tail`");
        if (cli_expect(argc, argv, 1) != EXIT_GOOD ||
            (count != NULL && cli_count("--count", count, &tail.left) != EXIT_GOOD))
                return EXIT_USAGE;
        if (tenant != NULL) {
                status = api_find_tenant(tenant, &id); /* queries the gateway only if it is not a complete id */
                tail.tenant = id.text;
        }
        if (status != EXIT_GOOD)
                return status;
        cli_catch_interrupt();
        return events_tail(&tail, from_beginning);
}
