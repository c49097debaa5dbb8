/* Waits for a tenant or an operation by polling; on a terminal with a progress bar. */
#pragma once

#include "cli/cli.h"

#define WAIT_DEFAULT_MS (5 * 60 * 1000)

/* Waits until the operation has ended and says how. Returns EXIT_GOOD (succeeded), EXIT_FAILED (failed, superseded),
 * EXIT_REFUSED (rejected) or EXIT_TIMEOUT; EXIT_AWAY only if the first request is not answered. ret, if not NULL, gets
 * the operation as last seen (released by the caller; NULL if never seen). tenant_id may be NULL: its progress is
 * shown. */
int wait_operation(const char *operation_id, const char *tenant_id, int64_t timeout_ms, json_t **ret);
/* Sends a request, and waits for its operation. Returns what api_post returns, with *ret_answer NULL, or what
 * wait_operation does. The caller releases both. */
int wait_request(const char *path, json_t *body, int64_t timeout_ms, json_t **ret_answer, json_t **ret_operation);
/* True for one of the six provisioning states. */
bool tenant_state_exists(const char *state);
/* The state for people: a tenant that is ready, yet closed to its application, is "suspended". Borrowed; never NULL. */
const char *tenant_state_shown(const json_t *snapshot);
/* Prints how to wait for an operation (NULL: prints nothing) that nobody is waiting for. */
void wait_hint(const char *operation_id);
/* --wait[=TIME]: *ret_ms is 0 if it is missing. Complains and returns EXIT_USAGE for an invalid value. */
int wait_option(int *argc, char **argv, int64_t *ret_ms);
