/* How long the other side of an HTTP call asks us to wait. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct retry_asked {
        const char *retry_after; /* Retry-After: seconds, or a date; NULL = absent, as with all of these */
        const char *reset;       /* RateLimit-Reset: seconds, or seconds since 1970 */
        const char *date;        /* Date: the reference for a date or an epoch; without it, our own clock */
};

/* Milliseconds; 0 = not given, or not understood. At most an hour: *ret_capped says whether more was asked for. All
 * borrowed. */
int64_t retry_after_ms(const struct retry_asked *asked, bool *ret_capped);
