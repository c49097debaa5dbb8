/* Counters, gauges and histograms in Prometheus text form. Base units; never a tenant id as a label. Loop thread only.
 */
#pragma once

#include "common/base/buf.h"

struct metric;

/* Both strings are borrowed for the life of the process. labels: NULL or `result="accepted"`. The same name and labels
 * give the same metric again. */
struct metric *metric_counter(const char *name, const char *labels, const char *help);
struct metric *metric_gauge(const char *name, const char *labels, const char *help);
/* Buckets in seconds from 1 ms to 60 s. */
struct metric *metric_histogram(const char *name, const char *labels, const char *help);

void metric_add(struct metric *metric, double value);
void metric_set(struct metric *metric, double value);
void metric_observe(struct metric *metric, double seconds);
void metrics_print(struct buf *out);
