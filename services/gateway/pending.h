/* A request that is answered later, and may have gone away meanwhile. Owner and request each let go once; the second
 * one frees it. */
#pragma once

#include "common/net/http_server.h"

struct pending {
        struct http_request *request; /* NULL once it is gone */
        bool busy;                    /* its owner will still call pending_done */
        void (*release)(struct pending *pending);
};

/* Embeds pending first in the owner's struct; release frees that struct. */
void pending_begin(struct pending *pending, struct http_request *request, void (*release)(struct pending *pending));
/* The owner's work is done. Returns the request if it still wants its answer (answer it at once); otherwise NULL, and
 * pending has been freed. */
struct http_request *pending_done(struct pending *pending);
/* The answer if Kafka has not taken the event: come again in a moment. */
void pending_answer_untaken(struct http_request *request, const struct err *err);
