/* The clocks we read, each for one purpose. Tests of pure logic pass times in instead. */
#pragma once

#include <stdint.h>

/* Milliseconds since 1970: for what people read and what other systems compare. */
int64_t clock_wall_ms(void);
/* Milliseconds that keep counting while the machine or the process sleeps (CLOCK_BOOTTIME): for leases and
 * deadlines. */
int64_t clock_boot_ms(void);
/* Nanoseconds of CLOCK_MONOTONIC: for measuring. */
int64_t clock_ns(void);
/* "2026-01-31T12:00:00.123Z" into out[25]. */
void clock_format(int64_t wall_ms, char out[25]);
