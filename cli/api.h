/* The gateway's API for the commands: one blocking call at a time, with TENANTRY_URL and TENANTRY_TOKEN. */
#pragma once

#include "cli/cli.h"
#include "common/base/id.h"

struct api_request {
        const char *method, *path;
        const json_t *body;          /* borrowed; NULL = none */
        const char *idempotency_key; /* NULL = none */
        const char *token;           /* NULL = TENANTRY_TOKEN */
        long timeout_ms;             /* 0 = as long as a request may take */
};

struct api_answer {
        long status;    /* 0: no answer */
        json_t *body;   /* released with api_answer_release; NULL if it is not JSON */
        char away[256]; /* why there is no answer */
};

/* Sends and waits. Returns the exit code for the answer; prints nothing. EXIT_USAGE, with a message, without
 * TENANTRY_URL. */
int api_send(const struct api_request *request, struct api_answer *ret);
void api_answer_release(struct api_answer *answer);
/* Prints what was wrong with an answer, on one line, and keeps details for machines; returns code. */
int api_complain(const struct api_answer *answer, int code);

/* GET; complains if it fails. The caller releases *ret, which is set only on EXIT_GOOD. */
int api_get(const char *path, json_t **ret);
/* POST; the same. body is borrowed; key may be NULL. */
int api_post(const char *path, const json_t *body, const char *key, json_t **ret);
/* A tenant's id from an id, a unique beginning of one, or a subdomain; complains if there is none. */
int api_find_tenant(const char *word, struct id *ret);
/* The same for an operation's id or its beginning. */
int api_find_operation(const char *word, struct id *ret);
/* Either of the two; tenants first. */
int api_find_tenant_or_operation(const char *word, struct id *ret);
/* name=value for a query, percent-encoded, with '?' or '&' before it; adds nothing for a NULL value. */
struct buf;
void api_add_query(struct buf *path, const char *name, const char *value);

/* GET of any URL, for doctor: the status (0 = no answer, then *ret_away says why; the caller frees it). *ret_body may
 * be NULL after it. token may be NULL. */
long api_probe(const char *url, const char *token, json_t **ret_body, char **ret_away);
