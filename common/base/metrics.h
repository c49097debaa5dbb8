/* Counters, gauges and histograms in Prometheus text form. Base units; never a tenant id as a label. Loop thread only.
 */
#pragma once

#include "common/base/buf.h"

#define METRIC_FAMILY_LIMIT 500

struct metric;
struct metric_family;

/* Both strings are borrowed for the life of the process. labels: NULL or `result="accepted"`. The same name and labels
 * return the same metric. */
struct metric *metric_counter(const char *name, const char *labels, const char *help);
struct metric *metric_gauge(const char *name, const char *labels, const char *help);
/* Buckets in seconds from 1 ms to 60 s. */
struct metric *metric_histogram(const char *name, const char *labels, const char *help);

/* Metrics of one name whose label values are not known in advance. labels: their names, "kind,step"; all strings are
 * borrowed for the life of the process. The same name returns the same family. */
struct metric_family *metric_counter_family(const char *name, const char *labels, const char *help);
struct metric_family *metric_gauge_family(const char *name, const char *labels, const char *help);
/* The family's metric with these values, one for each label (borrowed). A family has at most METRIC_FAMILY_LIMIT
 * metrics: any further values share one, whose labels are all "other". */
struct metric *metric_of(struct metric_family *family, const char *const *values);
#define METRIC_OF(family, ...) metric_of(family, (const char *const[]){ __VA_ARGS__ })
/* Sets all metrics of the family: before new values are set, so that missing ones become zero. */
void metric_family_set(struct metric_family *family, double value);

void metric_add(struct metric *metric, double value);
void metric_set(struct metric *metric, double value);
void metric_observe(struct metric *metric, double seconds);
void metrics_print(struct buf *out);
