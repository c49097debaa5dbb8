/* Events and history rows in words. */
#pragma once

#include "common/base/json.h"

/* What happened, in one sentence; made safe for a terminal. The caller frees. */
char *story_effect(const char *type, const json_t *data);
/* By which rule; NULL where the effect speaks for itself. Borrowed. */
const char *story_rule(const char *type, const json_t *data);
