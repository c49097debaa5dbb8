/* A person has pressed a button on one of our pages. What it asks for takes the way of every command; once that is
 * done, the browser is sent to the link which it made, and which nobody else is told. */
#pragma once

#include "services/gateway/gateway.h"

struct visit_wish {
        const char *topic, *type; /* of the command; all borrowed for good */
        /* The link: sealed, number (of its seal). $1 is the tenant, and $2 the operation where params is 2. */
        const char *sql;
        size_t params;
        const char *field; /* under which it is sealed */
        /* Answers where there is no link: with the operation as it ended, or NULL if that is not known. */
        void (*failed)(struct http_request *request, const json_t *operation);
};

/* data: of the command; taken. Answers the request, later. */
void visit_begin(struct gateway *gateway, struct http_request *request, const struct visit_wish *wish,
                 const char *tenant_id, json_t *data);
/* Each press is expensive for somebody. 0: go on; else seconds to wait, which are in the answer's Retry-After already.
 */
int64_t visit_wait(struct gateway *gateway, struct http_request *request, const char *tenant_id);
/* Answers with 303; the page that leads there is told to nobody. */
void visit_redirect(struct http_request *request, const char *where);
