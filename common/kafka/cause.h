/* Why Kafka cannot be reached or refuses us: of everything librdkafka reports, the most informative for a person. */
#pragma once

#include "common/base/err.h"

#include <librdkafka/rdkafka.h>

struct kafka_cause {
        struct err err; /* ERR_NONE: nothing is known. ERR_OURS: a person must fix login, certificate or rights */
        size_t kind;
        int64_t noted_ms;
};

/* Records an error and librdkafka's message. Codes: kafka_login, kafka_tls, kafka_rights, kafka_name (a host cannot be
 * found), kafka_away (nobody listens, or nobody answers). For a minute, a more informative error is not replaced by a
 * less informative one: one broker may refuse our login while nobody listens at the address of another. */
void kafka_cause_note(struct kafka_cause *cause, rd_kafka_resp_err_t code, const char *text);
/* All is well again. */
void kafka_cause_forget(struct kafka_cause *cause);
