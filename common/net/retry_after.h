/* How long the other side of an HTTP call asks us to wait. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct retry_asked {
        const char *retry_after; /* Retry-After: seconds, or a date; NULL = absent, as with all of these */
        const char *reset;       /* RateLimit-Reset: seconds, or seconds since 1970 */
        const char *date;        /* Date: what a date or an epoch is counted from; without it, our own clock */
};

/* Milliseconds; 0 = not said, or not understood. At most an hour: *ret_capped tells that more was asked. All
 * borrowed. */
int64_t retry_after_ms(const struct retry_asked *asked, bool *ret_capped);
