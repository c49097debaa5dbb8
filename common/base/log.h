/* Logs as JSON lines (readable text on a terminal). Main code logs, common code returns errors.
 * Never hand a password, key, token or connection URL to these functions. */
#pragma once

#include "common/base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Once, before anything else is logged. service is borrowed for the life of the process. */
void log_init(const char *service, const char *level);
void log_set_level(const char *level);

/* If the reader of standard error stops, lines are dropped after a tenth of a second and reported later: no service
 * waits for its log. Any thread may log. Pairs of name and text follow the message and end with NULL; a NULL text
 * leaves its pair out: log_info("tenant is ready", "tenant", id, NULL); */
void log_emit(enum log_level level, const char *message, ...) __attribute__((sentinel));

/* How many lines were dropped since the start. */
uint64_t log_lines_lost(void);

#define log_debug(...) log_emit(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_emit(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_emit(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_emit(LOG_ERROR, __VA_ARGS__)
