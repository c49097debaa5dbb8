/* Events and history rows in words. */
#pragma once

#include "common/base/json.h"

/* What happened, in one sentence; made safe for a terminal. The caller frees. */
char *story_effect(const char *type, const json_t *data);
/* A row of history[at], rows being newest first. A long detail of an error stands once: where the activity ends, else
 * where it was told last; the other rows have its code only. The caller frees. */
char *story_row(const json_t *history, size_t at);
/* Whether detail, of an error with this code, is long and told in full by one of the first count rows. */
bool story_tells(const json_t *history, size_t count, const char *code, const char *detail);
/* By which rule; NULL where the effect speaks for itself. Borrowed. */
const char *story_rule(const char *type, const json_t *data);
