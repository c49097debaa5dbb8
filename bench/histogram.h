/* Latencies counted by the microsecond, so that a percentile is a value that occurred. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_BUCKETS 2000000 /* two seconds; what is longer is counted in the last one */

struct histogram {
        uint64_t count, sum_us, max_us;
        uint32_t buckets[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *h, uint64_t us)
{
        h->count++;
        h->sum_us += us;
        if (us > h->max_us)
                h->max_us = us;
        h->buckets[us < HISTOGRAM_BUCKETS ? us : HISTOGRAM_BUCKETS - 1]++;
}

/* The smallest latency that at least this share of all does not exceed. */
static inline uint64_t histogram_percentile(const struct histogram *h, double share)
{
        uint64_t wanted = (uint64_t)((double)h->count * share + 0.999999), seen = 0;

        for (uint64_t us = 0; us < HISTOGRAM_BUCKETS; us++) {
                seen += h->buckets[us];
                if (seen >= wanted && seen > 0)
                        return us;
        }
        return h->max_us;
}

/* Members of a JSON object, without the braces. */
static inline void histogram_print(const struct histogram *h)
{
        printf("\"mean_us\": %.1f, \"p50_us\": %llu, \"p90_us\": %llu, \"p99_us\": %llu, \"p999_us\": %llu, "
               "\"max_us\": %llu",
               h->count ? (double)h->sum_us / (double)h->count : 0.0, (unsigned long long)histogram_percentile(h, 0.5),
               (unsigned long long)histogram_percentile(h, 0.9), (unsigned long long)histogram_percentile(h, 0.99),
               (unsigned long long)histogram_percentile(h, 0.999), (unsigned long long)h->max_us);
}
