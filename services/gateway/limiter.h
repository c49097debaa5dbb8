/* Token buckets, one for each key: a caller's address for the public signup, a tenant for sign-in links. Bounded: when
 * it is full, the key that has been idle longest is removed. */
#pragma once

#include "common/base/macros.h"

struct limiter;

struct limiter *limiter_new(int64_t per_hour);
void limiter_free(struct limiter *limiter);
/* key: at most 63 bytes. Returns 0 if allowed, otherwise the milliseconds until it will be. */
int64_t limiter_take(struct limiter *limiter, const char *key, int64_t now_ms);
