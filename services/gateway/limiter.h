/* Token buckets, one for each key: a caller's address for the public signup, a tenant for sign-in links. Bounded: when
 * it is full the key that is idle for longest goes. */
#pragma once

#include "common/base/macros.h"

struct limiter;

struct limiter *limiter_new(int64_t per_hour);
void limiter_free(struct limiter *limiter);
/* key: at most 63 bytes. Returns 0 where it may, else the milliseconds until it may. */
int64_t limiter_take(struct limiter *limiter, const char *key, int64_t now_ms);
