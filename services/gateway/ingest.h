/* From a checked request to an event in Kafka: the answer 202 is given when the brokers have it, and not before. */
#pragma once

#include "services/gateway/gateway.h"

struct ingest_wish {
        const char *caller, *route; /* with the Idempotency-Key they name the operation */
        const char *type;           /* of the event */
        const char *tenant_id;      /* NULL: a new tenant, named after the operation */
        bool unconfirmed; /* it will be rejected, which is answered when the event is in Kafka: who watches sees it */
};

/* Takes data. Answers the request, now or later. */
void ingest(struct gateway *gateway, struct http_request *request, const struct ingest_wish *wish, json_t *data);
/* The request's body as a JSON object (an empty body is {}). NULL where it is none: then it is answered. */
json_t *ingest_body(struct http_request *request);
