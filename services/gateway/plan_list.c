/* `GET /api/plans`: what is sold, for everybody. Nothing is read for an answer, so that nobody needs to be kept from
 * asking often. */
#include "common/base/crypto.h"
#include "common/base/memory.h"
#include "common/contracts/plans.h"
#include "services/gateway/gateway.h"

#include <string.h>

struct plan_list {
        char *body, *tag; /* the answer, and its ETag */
};

int plan_list_new(const char *file, struct plan_list **ret, struct err *err)
{
        struct plans *plans = NULL;
        struct plan_list *list;
        auto_json *shown = NULL;
        auto_free char *hex = NULL;
        struct crypto_digest digest;
        int rc = plans_load(file, &plans, err);

        if (rc < 0)
                return rc;
        list = NEW(struct plan_list);
        shown = plans_json(plans);
        plans_free(plans);
        list->body = json_print(shown);
        crypto_sha256(list->body, strlen(list->body), &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes) / 2);
        list->tag = mem_printf("\"%s\"", hex);
        *ret = list;
        return 0;
}

void plan_list_free(struct plan_list *list)
{
        if (list == NULL)
                return;
        free(list->body);
        free(list->tag);
        free(list);
}

/* Whether a caller has the answer: If-None-Match is "*", or a list of tags, also weak ones (W/"..."). */
static bool plan_list_is_known(const struct plan_list *list, const char *tags)
{
        return tags != NULL && (strcmp(tags, "*") == 0 || strstr(tags, list->tag) != NULL);
}

void plans_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const struct plan_list *list = gateway->plan_list;

        (void)caller;
        http_answer_header(request, "ETag", list->tag);
        if (plan_list_is_known(list, http_header(request, "If-None-Match")))
                http_answer(request, 304, "application/json", "", 0);
        else
                http_answer(request, 200, "application/json", list->body, strlen(list->body));
}
