/* From a checked request to an event in Kafka: the answer 202 is sent when the brokers have it, and not before. */
#pragma once

#include "services/gateway/gateway.h"

/* What an event is about. */
struct ingest_subject {
        const struct contract *contracts;
        const char *field;  /* of the data, which has its id and is the message key; NULL: the key is another field */
        const char *derive; /* a new one's id is derived from the operation and this word */
};

extern const struct ingest_subject INGEST_TENANT, INGEST_BILLING, INGEST_RUN, INGEST_CHECK, INGEST_FILE;

struct ingest_wish {
        const char *caller, *route; /* together with the Idempotency-Key they determine the operation id */
        const struct ingest_subject *subject;
        const char *type; /* of the event */
        const char *id;   /* of the subject; NULL: a new one, named after the operation */
        bool unconfirmed; /* it will be rejected; answered once the event is in Kafka, so that watchers see it */
};

/* Takes ownership of data. Answers the request, now or later. */
void ingest(struct gateway *gateway, struct http_request *request, const struct ingest_wish *wish, json_t *data);
/* The request's body as a JSON object (an empty body is {}) without this field, which is assigned here or is in the
 * path. NULL if it is not one: then the request has been answered. */
json_t *ingest_body(struct http_request *request, const char *without);
