/* Why Kafka cannot be reached or does not let us: of all that librdkafka reports, what tells a person most. */
#pragma once

#include "common/base/err.h"

#include <librdkafka/rdkafka.h>

struct kafka_cause {
        struct err err; /* ERR_NONE: nothing is known. ERR_OURS: a person must mend login, certificate or rights */
        size_t kind;
        int64_t noted_ms;
};

/* Takes note of an error and librdkafka's words for it. Codes: kafka_login, kafka_tls, kafka_rights, kafka_name (a host
 * cannot be found), kafka_away (nobody listens, or nobody answers). What tells more stays for a minute beside what
 * tells less: one broker may refuse our login while nobody listens at the address of another. */
void kafka_cause_note(struct kafka_cause *cause, rd_kafka_resp_err_t code, const char *text);
/* All is well again. */
void kafka_cause_forget(struct kafka_cause *cause);
