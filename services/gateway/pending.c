/* A request whose answer comes later: see pending.h. */
#include "services/gateway/pending.h"

static void pending_request_gone(void *state)
{
        struct pending *pending = state;

        pending->request = NULL;
        if (!pending->busy)
                pending->release(pending);
}

void pending_begin(struct pending *pending, struct http_request *request, void (*release)(struct pending *pending))
{
        pending->request = request;
        pending->busy = true;
        pending->release = release;
        http_keep(request, pending, pending_request_gone);
}

struct http_request *pending_done(struct pending *pending)
{
        pending->busy = false;
        if (pending->request == NULL) {
                pending->release(pending);
                return NULL;
        }
        return http_is_answered(pending->request) ? NULL : pending->request;
}

void pending_answer_untaken(struct http_request *request, const struct err *err)
{
        struct err told = *err;

        told.retry_after = SECONDS(2);
        http_answer_error(request, &told);
}
