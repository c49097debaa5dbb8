/* Requests that asked to wait for their outcome (RFC 7240 `Prefer: wait`): one query for all of them, ten times a
 * second. */
#pragma once

#include "common/base/id.h"
#include "services/gateway/gateway.h"

struct waiters;

struct waiters *waiters_new(struct gateway *gateway);
void waiters_free(struct waiters *waiters);
/* told is called once: with the operation (borrowed) when it has ended or waits for something else (then it is still
 * accepted, and has a code), or with NULL after ms. */
void waiters_add(struct waiters *waiters, const char *operation_id, int64_t ms,
                 void (*told)(void *context, const json_t *operation), void *context);
/* The milliseconds the request asks to wait, limited to most; 0 = none. */
int64_t waiters_preference(const struct http_request *request, int64_t most);
