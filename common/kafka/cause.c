/* Why Kafka cannot be reached: see cause.h. */
#include "common/kafka/cause.h"

#include "common/base/clock.h"

#include <string.h>

#define MEMORY SECONDS(60) /* librdkafka suppresses the same error for half a minute */

/* Ordered by how informative they are, most informative first. */
static const struct kind {
        const char *code, *sentence;
        enum err_class class;
        rd_kafka_resp_err_t codes[4]; /* ends with NO_ERROR */
} KINDS[] = {
        { "kafka_login",
          "Kafka refuses our login",
          ERR_OURS,
          { RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED } },
        { "kafka_tls", "TLS to Kafka fails", ERR_OURS, { RD_KAFKA_RESP_ERR__SSL } },
        { "kafka_rights",
          "Kafka denies access",
          ERR_OURS,
          { RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED } },
        { "kafka_name", "a Kafka broker's host cannot be resolved", ERR_BUSY, { RD_KAFKA_RESP_ERR__RESOLVE } },
        { "kafka_away",
          "no Kafka broker can be reached",
          ERR_BUSY,
          { RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__TIMED_OUT } },
        { "kafka_away",
          "no Kafka broker can be reached, or security.protocol does not match theirs",
          ERR_BUSY,
          { RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN } },
};

/* ARRAY_SIZE(KINDS) if it is none of these. */
static size_t cause_find_kind(rd_kafka_resp_err_t code)
{
        size_t i;

        for (i = 0; i < ARRAY_SIZE(KINDS); i++)
                for (const rd_kafka_resp_err_t *c = KINDS[i].codes; *c != RD_KAFKA_RESP_ERR_NO_ERROR; c++)
                        if (*c == code)
                                return i;
        return i;
}

void kafka_cause_note(struct kafka_cause *cause, rd_kafka_resp_err_t code, const char *text)
{
        size_t kind = cause_find_kind(code);
        int64_t now = clock_boot_ms();

        if (kind == ARRAY_SIZE(KINDS))
                return;
        if (cause->err.class != ERR_NONE && kind > cause->kind && now - cause->noted_ms < MEMORY)
                return;
        cause->kind = kind;
        cause->noted_ms = now;
        err_set(&cause->err, KINDS[kind].class, KINDS[kind].code, "%s: %.320s", KINDS[kind].sentence, text);
}

void kafka_cause_forget(struct kafka_cause *cause)
{
        memset(cause, 0, sizeof(*cause));
}
