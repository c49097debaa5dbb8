/* Dead letters, alerts and events of Stripe's by their number: see numbered.h. */
#include "services/gateway/numbered.h"

#include "services/gateway/paging.h"

#include <string.h>

bool numbered_is_asked_for(struct http_request *request)
{
        if (page_is_number(http_segment(request)))
                return true;
        http_answer_problem(request, 404, "not_found", NULL, "there is no such number");
        return false;
}

/* The catalog's answer: done, or why not. */
static const struct outcome {
        const char *outcome;
        unsigned status;
        const char *field, *detail;
} OUTCOMES[] = {
        { .outcome = "dropped", .status = 200 },
        { .outcome = "resolved", .status = 200 },
        { .outcome = "replayed", .status = 200 },
        { .outcome = "not_replayable", .status = 409, .detail = "only an event that was set aside is applied again" },
        { .outcome = "set_aside_again",
          .status = 409,
          .detail = "it was set aside once more: its reason tells for what, which is still to be mended" },
        { .outcome = "not_found", .status = 404, .detail = "there is no such number" },
        { .outcome = "not_confirmed",
          .status = 409,
          .field = "confirm",
          .detail = "dropping is protected: confirm must be the code that the message was refused with" },
        { .outcome = "not_published",
          .status = 409,
          .detail = "its dead-letter topic does not have it yet, so this is the only copy; try again in a moment" },
};

void numbered_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        const char *outcome = pg_text(rows, 0, "outcome");

        (void)gateway;
        for (size_t i = 0; i < ARRAY_SIZE(OUTCOMES); i++) {
                const struct outcome *o = &OUTCOMES[i];

                if (strcmp(o->outcome, outcome) != 0)
                        continue;
                if (o->status == 200)
                        http_answer_json(request, 200, json_pack("{s:s}", "status", outcome));
                else
                        http_answer_problem(request, o->status, outcome, o->field, o->detail);
                return;
        }
        http_answer_problem(request, 500, "internal", NULL,
                            "the catalog gave an answer that this version does not know");
}
