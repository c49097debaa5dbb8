/* Kafka for the commands: see brokers.h. */
#include "cli/brokers.h"

#include "common/base/clock.h"
#include "common/kafka/cause.h"
#include "common/kafka/client.h"

#define TRY_MS 250

int brokers_open(rd_kafka_type_t type, rd_kafka_t **ret)
{
        struct kafka_settings settings = {
                .brokers = cli_environment("KAFKA_BROKERS"),
                .properties = cli_setting("KAFKA_PROPERTIES"),
                .client_id = "tenantry-cli",
        };
        rd_kafka_conf_t *conf;
        struct err err;
        int rc;

        if (settings.brokers == NULL)
                return EXIT_USAGE;
        if (kafka_client_conf(&settings, NULL, &conf, &err) < 0)
                return cli_fail(EXIT_USAGE, "%s: %s", err.field, err.message);
        kafka_client_set(conf, "log_level", "0"); /* we report errors ourselves, on one line */
        rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR);
        kafka_client_set(conf, "log.connection.close", "true"); /* brokers that expect another protocol just hang up */
        if (type == RD_KAFKA_CONSUMER) {
                kafka_client_set(conf, "group.id", "tenantry-cli"); /* required by librdkafka, never joined */
                kafka_client_set(conf, "enable.auto.commit", "false");
                kafka_client_set(conf, "fetch.wait.max.ms", "100");
        }
        rc = kafka_client_new(type, conf, ret, &err);
        if (rc < 0)
                return cli_fail(rc == -ERR_INPUT ? EXIT_USAGE : EXIT_FAILED, "%s", err.message);
        return EXIT_GOOD;
}

static void brokers_hear_reasons(rd_kafka_t *rk, struct kafka_cause *cause)
{
        rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
        rd_kafka_event_t *event;

        while ((event = rd_kafka_queue_poll(queue, 0)) != NULL) {
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
                        kafka_cause_note(cause, rd_kafka_event_error(event), rd_kafka_event_error_string(event));
                rd_kafka_event_destroy(event);
        }
        rd_kafka_queue_destroy(queue);
}

int brokers_reach(rd_kafka_t *rk, struct err *err)
{
        int64_t until = clock_boot_ms() + BROKERS_TIMEOUT_MS;
        const struct rd_kafka_metadata *metadata;
        struct kafka_cause cause = { 0 };
        rd_kafka_resp_err_t code;

        do {
                code = rd_kafka_metadata(rk, 0, NULL, &metadata, TRY_MS);
                if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
                        rd_kafka_metadata_destroy(metadata);
                        return 0;
                }
                brokers_hear_reasons(rk, &cause);
        } while (clock_boot_ms() < until && cause.err.class != ERR_OURS && !cli_interrupted);
        if (cause.err.class == ERR_NONE)
                kafka_cause_note(&cause, RD_KAFKA_RESP_ERR__TRANSPORT, rd_kafka_err2str(code));
        *err = cause.err;
        return -(int)err->class;
}

int brokers_demand(rd_kafka_t *rk)
{
        struct err err;
        int rc = brokers_reach(rk, &err);

        if (rc == 0)
                return EXIT_GOOD;
        return cli_fail(rc == -ERR_OURS ? EXIT_REFUSED : EXIT_AWAY, "%s", err.message);
}
