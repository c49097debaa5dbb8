/* The clocks we read: see clock.h. */
#include "common/base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t clock_read_ns(clockid_t id)
{
        struct timespec now;

        clock_gettime(id, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_wall_ms(void)
{
        return clock_read_ns(CLOCK_REALTIME) / 1000000;
}

int64_t clock_boot_ms(void)
{
        return clock_read_ns(CLOCK_BOOTTIME) / 1000000;
}

int64_t clock_ns(void)
{
        return clock_read_ns(CLOCK_MONOTONIC);
}

void clock_format(int64_t wall_ms, char out[25])
{
        int64_t ms = (wall_ms % 1000 + 1000) % 1000; /* rounds down before 1970 too */
        time_t seconds = (time_t)((wall_ms - ms) / 1000);
        struct tm utc;
        char date[20];

        gmtime_r(&seconds, &utc);
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
        snprintf(out, 25, "%.19s.%03uZ", date, (unsigned)ms);
}
