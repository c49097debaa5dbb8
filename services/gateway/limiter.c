/* Token buckets by key: see limiter.h. */
#include "services/gateway/limiter.h"

#include "common/base/memory.h"

#include <stdio.h>
#include <uthash.h>

#define KEY_LIMIT 20000
#define HOUR_MS   3600000.0

struct bucket {
        char key[64];
        double tokens;
        int64_t at;
        UT_hash_handle hh; /* kept in order of use: the first has been idle longest */
};

struct limiter {
        double per_hour;
        struct bucket *buckets;
};

struct limiter *limiter_new(int64_t per_hour)
{
        struct limiter *limiter = NEW(struct limiter);

        limiter->per_hour = (double)per_hour;
        return limiter;
}

void limiter_free(struct limiter *limiter)
{
        struct bucket *bucket, *next;

        if (limiter == NULL)
                return;
        HASH_ITER (hh, limiter->buckets, bucket, next) {
                HASH_DEL(limiter->buckets, bucket);
                free(bucket);
        }
        free(limiter);
}

static struct bucket *limiter_find_bucket(struct limiter *limiter, const char *key, int64_t now_ms)
{
        struct bucket *bucket, *oldest;

        HASH_FIND_STR(limiter->buckets, key, bucket);
        if (bucket != NULL) {
                HASH_DEL(limiter->buckets, bucket);
        } else {
                bucket = NEW(struct bucket);
                snprintf(bucket->key, sizeof(bucket->key), "%s", key);
                bucket->tokens = limiter->per_hour;
                bucket->at = now_ms;
        }
        HASH_ADD_STR(limiter->buckets, key, bucket);
        if (HASH_COUNT(limiter->buckets) > KEY_LIMIT) {
                oldest = limiter->buckets;
                HASH_DEL(limiter->buckets, oldest);
                free(oldest);
        }
        return bucket;
}

int64_t limiter_take(struct limiter *limiter, const char *key, int64_t now_ms)
{
        struct bucket *bucket = limiter_find_bucket(limiter, key, now_ms);
        double tokens = bucket->tokens + (double)(now_ms - bucket->at) * limiter->per_hour / HOUR_MS;

        bucket->tokens = MIN(tokens, limiter->per_hour);
        bucket->at = now_ms;
        if (bucket->tokens < 1)
                return (int64_t)((1 - bucket->tokens) * HOUR_MS / limiter->per_hour) + 1;
        bucket->tokens -= 1;
        return 0;
}
