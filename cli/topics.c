/* Our topics: see topics.h. */
#include "cli/topics.h"

#include "cli/brokers.h"
#include "common/base/json.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define ADMIN_TIMEOUT 20000
#define WEEK_MS       "604800000"
#define MONTH_MS      "2592000000"
#define LARGE_BYTES   "2097152" /* a migration file of 512 KiB in JSON, an event of 1 MiB from Stripe */

struct topic {
        const char *name, *policy, *retention_ms, *max_bytes;
        bool in_one_order; /* of one partition, whatever the others have */
};

static const struct topic TOPICS[] = {
        { .name = "tenant.signup.v1", .policy = "delete", .retention_ms = WEEK_MS },
        { .name = "tenant.command.v1", .policy = "delete", .retention_ms = WEEK_MS },
        { .name = "tenant.status.v1", .policy = "compact" },
        { .name = "tenant.events.v1", .policy = "delete", .retention_ms = MONTH_MS },
        { .name = "tenant.signup.v1.provisioner.dlq",
          .policy = "delete",
          .retention_ms = MONTH_MS,
          .max_bytes = "4194304" },
        { .name = "tenant.command.v1.provisioner.dlq",
          .policy = "delete",
          .retention_ms = MONTH_MS,
          .max_bytes = "4194304" },
        /* A run is about the files before it, whose keys are others; a restored catalog reads both again. */
        { .name = "tenant.migration.v1",
          .policy = "delete",
          .retention_ms = WEEK_MS,
          .max_bytes = LARGE_BYTES,
          .in_one_order = true },
        { .name = "billing.command.v1", .policy = "delete", .retention_ms = WEEK_MS },
        { .name = "billing.command.v1.billing.dlq",
          .policy = "delete",
          .retention_ms = MONTH_MS,
          .max_bytes = "4194304" },
        { .name = "billing.stripe.v1", .policy = "delete", .retention_ms = MONTH_MS, .max_bytes = LARGE_BYTES },
        { .name = "billing.stripe.v1.billing.dlq",
          .policy = "delete",
          .retention_ms = MONTH_MS,
          .max_bytes = "4194304" },
        { .name = "tenant.migration.v1.migrator.dlq",
          .policy = "delete",
          .retention_ms = MONTH_MS,
          .max_bytes = "4194304" },
};

#define TOPIC_COUNT (sizeof(TOPICS) / sizeof(TOPICS[0]))

static rd_kafka_NewTopic_t *topics_describe(const struct topic *topic, int partitions, int replication)
{
        char reason[256];
        rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(topic->name, topic->in_one_order ? 1 : partitions, replication,
                                                         reason, sizeof(reason));

        if (new == NULL)
                return NULL;
        rd_kafka_NewTopic_set_config(new, "cleanup.policy", topic->policy);
        if (topic->retention_ms != NULL)
                rd_kafka_NewTopic_set_config(new, "retention.ms", topic->retention_ms);
        if (topic->max_bytes != NULL)
                rd_kafka_NewTopic_set_config(new, "max.message.bytes", topic->max_bytes);
        if (replication >= 3)
                rd_kafka_NewTopic_set_config(new, "min.insync.replicas", "2");
        return new;
}

static int topics_report(const rd_kafka_event_t *event, json_t *made)
{
        const rd_kafka_CreateTopics_result_t *result;
        const rd_kafka_topic_result_t **topics;
        size_t count;
        int status = EXIT_GOOD;

        if (event == NULL)
                return cli_fail(EXIT_AWAY, "Kafka does not answer");
        if (rd_kafka_event_error((rd_kafka_event_t *)event))
                return cli_fail(EXIT_AWAY, "Kafka: %s", rd_kafka_event_error_string((rd_kafka_event_t *)event));
        result = rd_kafka_event_CreateTopics_result((rd_kafka_event_t *)event);
        topics = rd_kafka_CreateTopics_result_topics(result, &count);
        for (size_t i = 0; i < count; i++) {
                rd_kafka_resp_err_t code = rd_kafka_topic_result_error(topics[i]);
                const char *name = rd_kafka_topic_result_name(topics[i]);

                if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
                        json_array_append_new(made, json_string(name));
                if (code == RD_KAFKA_RESP_ERR_NO_ERROR && !cli_json)
                        printf("topic %s: made\n", name);
                else if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
                        status = cli_fail(EXIT_FAILED, "topic %s: %s", name,
                                          rd_kafka_topic_result_error_string(topics[i]));
        }
        return status;
}

/* Ours, then those of snapshots. The caller frees the list and what it holds. */
static rd_kafka_NewTopic_t **topics_list(int partitions, int replication, const json_t *snapshots, size_t *ret_count)
{
        rd_kafka_NewTopic_t **list = mem_alloc(TOPIC_COUNT + json_array_size(snapshots), sizeof(list[0]));
        json_t *name;
        size_t i;

        for (*ret_count = 0; *ret_count < TOPIC_COUNT; ++*ret_count)
                list[*ret_count] = topics_describe(&TOPICS[*ret_count], partitions, replication);
        json_array_foreach (snapshots, i, name) {
                struct topic topic = { .name = json_string_value(name), .policy = "compact" };

                list[*ret_count] = topics_describe(&topic, partitions, replication);
                *ret_count += list[*ret_count] != NULL;
        }
        return list;
}

int topics_create(int partitions, int replication, const json_t *snapshots, json_t *made)
{
        auto_free rd_kafka_NewTopic_t **list = NULL;
        size_t count;
        rd_kafka_queue_t *queue;
        rd_kafka_event_t *event;
        rd_kafka_t *rk;
        int status;

        if (partitions < 1 || partitions > 1000 || replication < 1 || replication > 10)
                return cli_fail(EXIT_USAGE, "--partitions must be 1 to 1000, --replication 1 to 10");
        status = brokers_open(RD_KAFKA_PRODUCER, &rk);
        if (status != EXIT_GOOD)
                return status;
        status = brokers_demand(rk);
        if (status != EXIT_GOOD) {
                rd_kafka_destroy(rk);
                return status;
        }
        list = topics_list(partitions, replication, snapshots, &count);
        queue = rd_kafka_queue_new(rk);
        rd_kafka_CreateTopics(rk, list, count, NULL, queue);
        event = rd_kafka_queue_poll(queue, ADMIN_TIMEOUT);
        status = topics_report(event, made);
        if (event != NULL)
                rd_kafka_event_destroy(event);
        rd_kafka_queue_destroy(queue);
        rd_kafka_NewTopic_destroy_array(list, count);
        rd_kafka_destroy(rk);
        return status;
}

rd_kafka_resp_err_t topics_ask(rd_kafka_t *rk, const struct rd_kafka_metadata **ret)
{
        rd_kafka_topic_t *topics[TOPIC_COUNT];
        rd_kafka_resp_err_t code;

        for (size_t i = 0; i < TOPIC_COUNT; i++)
                topics[i] = rd_kafka_topic_new(rk, TOPICS[i].name, NULL);
        code = rd_kafka_metadata(rk, 0, NULL, ret, BROKERS_TIMEOUT_MS);
        for (size_t i = 0; i < TOPIC_COUNT; i++)
                rd_kafka_topic_destroy(topics[i]);
        return code;
}
