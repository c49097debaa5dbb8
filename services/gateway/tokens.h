/* Bearer tokens from a file of names, scopes and SHA-256, so that they work without PostgreSQL. */
#pragma once

#include "common/base/err.h"
#include "common/contracts/scope.h"

#include <uv.h>

struct tokens;

/* Whether the file is a valid token file. Returns 0 or -ERR_INPUT with the line. */
int tokens_check(const char *path, struct err *err);
/* Reads the file now, and again within a second of each change of its content. If the file is missing, invalid or has
 * no token, the previous tokens stay in force: the log, the metric tenantry_tokens_stale and tokens_fault say so.
 * Returns 0 and *ret, or -ERR_INPUT with the line. */
int tokens_new(uv_loop_t *loop, const char *path, struct tokens **ret, struct err *err);
void tokens_free(struct tokens *tokens);
/* Why the previous tokens are in force, borrowed until control returns to the loop; NULL if they are those in the
 * file. */
const char *tokens_fault(const struct tokens *tokens);
/* Whether the token with this SHA-256 exists and has the scope. */
bool tokens_allow(const struct tokens *tokens, const unsigned char hash[32], unsigned scope);
/* changed is called after the file was read again. One listener. */
void tokens_on_change(struct tokens *tokens, void (*changed)(void *context), void *context);
/* The name of the token's owner and its scopes, or NULL. Every token is compared, in constant time. The name is
 * borrowed until control returns to the loop. */
const char *tokens_find(const struct tokens *tokens, const char *token, unsigned *ret_scopes);
