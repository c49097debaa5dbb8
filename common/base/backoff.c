/* How long to wait before something is tried again: see backoff.h. */
#include "common/base/backoff.h"

#define LEAST 500
#define MOST  SECONDS(60)

int64_t backoff_ms(int attempts, unsigned random)
{
        int64_t ms = LEAST << MIN(attempts, 7);

        ms = MIN(ms, MOST);
        return ms - ms / 8 + (int64_t)(random % (unsigned)(ms / 4 + 1));
}
