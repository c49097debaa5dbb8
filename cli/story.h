/* Describes events and history rows in words. */
#pragma once

#include "common/base/json.h"

/* What happened, in one sentence that is safe for a terminal. The caller frees. */
char *story_effect(const char *type, const json_t *data);
/* The row history[at], rows being newest first. A long error detail is shown once: where the activity ends, otherwise
 * in its newest row; the other rows show only its code. The caller frees. */
char *story_row(const json_t *history, size_t at);
/* Whether detail, of an error with this code, is long and shown in full by one of the first count rows. */
bool story_tells(const json_t *history, size_t count, const char *code, const char *detail);
/* The rule that led to it; NULL if the effect speaks for itself. Borrowed. */
const char *story_rule(const char *type, const json_t *data);
