/* From a checked request to an event in Kafka: the answer 202 is sent when the brokers have it, and not before. */
#pragma once

#include "services/gateway/gateway.h"

struct ingest_wish {
        const char *caller, *route; /* together with the Idempotency-Key they determine the operation id */
        const char *type;           /* of the event */
        const char *tenant_id;      /* NULL: a new tenant, named after the operation */
        bool unconfirmed; /* it will be rejected; answered once the event is in Kafka, so that watchers see it */
};

/* Takes ownership of data. Answers the request, now or later. */
void ingest(struct gateway *gateway, struct http_request *request, const struct ingest_wish *wish, json_t *data);
/* The request's body as a JSON object (an empty body is {}). NULL if it is not one: then the request has been
 * answered. */
json_t *ingest_body(struct http_request *request);
