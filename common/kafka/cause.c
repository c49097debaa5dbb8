/* Why Kafka cannot be reached: see cause.h. */
#include "common/kafka/cause.h"

#include "common/base/clock.h"

#include <string.h>

#define MEMORY SECONDS(60) /* librdkafka keeps back the same error for half a minute */

/* By how much they tell, the most first. */
static const struct kind {
        const char *code, *sentence;
        enum err_class class;
        rd_kafka_resp_err_t codes[4]; /* ends with NO_ERROR */
} KINDS[] = {
        { .code = "kafka_login",
          .sentence = "Kafka refuses our login",
          .class = ERR_OURS,
          .codes = { RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED } },
        { .code = "kafka_tls",
          .sentence = "TLS to Kafka fails",
          .class = ERR_OURS,
          .codes = { RD_KAFKA_RESP_ERR__SSL } },
        { .code = "kafka_rights",
          .sentence = "Kafka does not let us",
          .class = ERR_OURS,
          .codes = { RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
                     RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED } },
        { .code = "kafka_name",
          .sentence = "a Kafka broker's host cannot be found",
          .class = ERR_BUSY,
          .codes = { RD_KAFKA_RESP_ERR__RESOLVE } },
        { .code = "kafka_away",
          .sentence = "no Kafka broker can be reached",
          .class = ERR_BUSY,
          .codes = { RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__TIMED_OUT } },
        { .code = "kafka_away",
          .sentence = "no Kafka broker can be reached, or security.protocol is not theirs",
          .class = ERR_BUSY,
          .codes = { RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN } },
};

/* ARRAY_SIZE(KINDS) where it is none of these. */
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
