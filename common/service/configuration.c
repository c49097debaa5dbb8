/* What is wrong with a configuration: see configuration.h. */
#include "common/service/configuration.h"

#include "common/base/log.h"
#include "common/base/memory.h"

#include <stdio.h>

int exit_status_of(const struct err *err)
{
        return err->class == ERR_INPUT ? EXIT_CONFIGURATION : EXIT_FAILED;
}

static void configuration_advise(const struct kafka_settings *kafka)
{
        auto_free char *advice = kafka_client_advice(kafka);

        if (advice != NULL)
                log_warn("Kafka may refuse KAFKA_PROPERTIES", "error", advice, NULL);
}

int configuration_check(const struct config_table *tables, size_t count, const struct kafka_settings *kafka)
{
        struct err err = { 0 };
        int rc = config_check_names(tables, count, &err);

        if (rc == 0)
                rc = kafka_client_check(kafka, &err);
        if (rc < 0) {
                log_error(err.class == ERR_INPUT ? "the configuration is wrong" : "the configuration cannot be checked",
                          "field", err.field, "error", err.message, NULL);
                return exit_status_of(&err);
        }
        configuration_advise(kafka);
        puts("the configuration is good");
        return 0;
}

/* The variable may belong to another program, and the brokers may be old ones. */
void configuration_warn(const struct config_table *tables, size_t count, const struct kafka_settings *kafka)
{
        struct err err;

        if (config_check_names(tables, count, &err) < 0)
                log_warn("a variable is set that nobody reads", "field", err.field, "error", err.message, NULL);
        configuration_advise(kafka);
}
