/* How long others ask us to wait: see retry_after.h. */
#include "common/net/retry_after.h"

#include "common/base/clock.h"
#include "common/base/macros.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#define MOST_S     INT64_C(3600)
#define EPOCH_FROM INT64_C(1000000000) /* 2001: above any wait in seconds, below any current time */
#define TOO_MUCH_S (MOST_S + 1)

/* Seconds, if the text is only digits, or -1. Too many digits give the largest number. */
static int64_t retry_read_digits(const char *text)
{
        size_t digits = strspn(text, "0123456789");

        if (digits == 0 || text[digits + strspn(text + digits, " \t")] != '\0')
                return -1;
        return strtoll(text, NULL, 10);
}

static int64_t retry_until(int64_t instant_s, const struct retry_asked *asked)
{
        time_t now = asked->date ? curl_getdate(asked->date, NULL) : -1;

        return MAX(0, instant_s - (now >= 0 ? (int64_t)now : clock_wall_ms() / 1000));
}

static int64_t retry_seconds_asked(const struct retry_asked *asked)
{
        int64_t seconds = asked->retry_after ? retry_read_digits(asked->retry_after) : -1;
        time_t instant = -1;

        if (seconds > 0)
                return seconds;
        if (seconds < 0 && asked->retry_after != NULL)
                instant = curl_getdate(asked->retry_after, NULL);
        if (instant >= 0)
                return retry_until(instant, asked);
        seconds = asked->reset ? retry_read_digits(asked->reset) : -1;
        return seconds >= EPOCH_FROM ? retry_until(seconds, asked) : MAX(0, seconds);
}

int64_t retry_after_ms(const struct retry_asked *asked, bool *ret_capped)
{
        int64_t seconds = MIN(retry_seconds_asked(asked), TOO_MUCH_S);

        *ret_capped = seconds > MOST_S;
        return SECONDS(MIN(seconds, MOST_S));
}
