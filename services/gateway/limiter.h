/* Token buckets by peer address, for the public signup. Bounded: when it is full the address idle for longest goes. */
#pragma once

#include "common/base/macros.h"

struct limiter;

struct limiter *limiter_new(int64_t per_hour);
void limiter_free(struct limiter *limiter);
/* Returns 0 where the address may, else the milliseconds until it may. */
int64_t limiter_take(struct limiter *limiter, const char *address, int64_t now_ms);
