/* Kafka for the commands: see brokers.h. */
#include "cli/brokers.h"

#include "common/kafka/client.h"

rd_kafka_t *brokers_open(rd_kafka_type_t type)
{
        struct kafka_settings settings = {
                .brokers = cli_environment("KAFKA_BROKERS"),
                .properties = cli_setting("KAFKA_PROPERTIES"),
                .client_id = "tenantry-cli",
        };
        rd_kafka_conf_t *conf;
        rd_kafka_t *rk = NULL;
        struct err err;

        if (settings.brokers == NULL)
                return NULL;
        if (kafka_client_conf(&settings, &conf, &err) < 0) {
                cli_fail(EXIT_USAGE, "%s", err.message);
                return NULL;
        }
        kafka_client_set(conf, "log_level", "0"); /* we say ourselves what is wrong, in one line */
        if (type == RD_KAFKA_CONSUMER) {
                kafka_client_set(conf, "group.id", "tenantry-cli"); /* demanded, never joined */
                kafka_client_set(conf, "enable.auto.commit", "false");
                kafka_client_set(conf, "fetch.wait.max.ms", "100");
        }
        if (kafka_client_new(type, conf, &rk, &err) < 0)
                cli_fail(EXIT_FAILED, "Kafka: %s", err.message);
        return rk;
}
