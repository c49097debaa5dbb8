/* Lengths of time as people write them: "500ms", "30s", "15m", "24h", "14d", "0". */
#pragma once

#include "common/base/err.h"

#include <stdint.h>

/* name: what it is called in the error. Returns 0 and milliseconds (not negative, below 100 million days), or
 * -ERR_INPUT. */
int duration_parse(const char *name, const char *text, int64_t *ret_ms, struct err *err);
