/* HTTP calls to other systems, with deadlines and limits. A transport error is "unknown", never "it did not happen". */
#pragma once

#include "common/net/transfers.h"

#include <stddef.h>

struct http_call {
        const char *method, *url;   /* all borrowed during http_client_call */
        const char *const *headers; /* "Name: value", ends with NULL; or NULL */
        const char *body;           /* NULL = none */
        int64_t timeout_ms;
};

struct http_reply {
        int status;
        const char *body; /* NUL-terminated; an answer over 4 MiB is an error */
        size_t length;
        CURL *easy; /* for http_reply_header */
};

/* The value of a header of the final answer (the last one if it was sent several times), or NULL. name in any case.
 * Borrowed until the next header is requested. */
const char *http_reply_header(const struct http_reply *reply, const char *name);

/* err: ERR_BUSY with code "transport" (refused, broken off, timed out): whether the other side acted is unknown. */
typedef void (*http_called_fn)(void *context, const struct http_reply *reply, const struct err *err);

struct http_exchange;

/* done is called once, later, unless the exchange is cancelled. */
struct http_exchange *http_client_call(struct transfers *transfers, const struct http_call *call, http_called_fn done,
                                       void *context);
void http_client_cancel(struct http_exchange *exchange);
