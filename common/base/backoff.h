/* How long to wait before something is tried again. */
#pragma once

#include "common/base/macros.h"

/* Milliseconds before the next attempt, when `attempts` have failed (from 0): doubles from half a second to a minute,
 * with a quarter of jitter so that a crowd does not come back as one. random: any number; the same one gives the same
 * wait. */
int64_t backoff_ms(int attempts, unsigned random);
