/* Prometheus metrics: see metrics.h. */
#include "common/base/metrics.h"

#include "common/base/memory.h"

#include <string.h>

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const double BUCKETS[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 };

struct metric {
        struct metric *next;
        enum metric_kind kind;
        const char *name, *labels, *help;
        double value;
        uint64_t count, buckets[ARRAY_SIZE(BUCKETS)];
};

static struct metric *first;

/* Metrics of one name stand together, as the text format demands. */
static struct metric *find_or_add(enum metric_kind kind, const char *name, const char *labels, const char *help)
{
        struct metric **at = &first, *metric;

        for (; *at != NULL; at = &(*at)->next) {
                if (strcmp((*at)->name, name) != 0)
                        continue;
                if (strcmp((*at)->labels, labels ? labels : "") == 0)
                        return *at;
                if ((*at)->next == NULL || strcmp((*at)->next->name, name) != 0) {
                        at = &(*at)->next;
                        break;
                }
        }
        metric = NEW(struct metric);
        metric->kind = kind;
        metric->name = name;
        metric->labels = labels ? labels : "";
        metric->help = help;
        metric->next = *at;
        *at = metric;
        return metric;
}

struct metric *metric_counter(const char *name, const char *labels, const char *help)
{
        return find_or_add(METRIC_COUNTER, name, labels, help);
}

struct metric *metric_gauge(const char *name, const char *labels, const char *help)
{
        return find_or_add(METRIC_GAUGE, name, labels, help);
}

struct metric *metric_histogram(const char *name, const char *labels, const char *help)
{
        return find_or_add(METRIC_HISTOGRAM, name, labels, help);
}

void metric_add(struct metric *metric, double value)
{
        metric->value += value;
}

void metric_set(struct metric *metric, double value)
{
        metric->value = value;
}

void metric_observe(struct metric *metric, double seconds)
{
        metric->value += seconds;
        metric->count++;
        for (size_t i = 0; i < ARRAY_SIZE(BUCKETS); i++)
                if (seconds <= BUCKETS[i])
                        metric->buckets[i]++;
}

static void print_histogram(struct buf *out, const struct metric *m)
{
        const char *comma = *m->labels ? "," : "";

        for (size_t i = 0; i < ARRAY_SIZE(BUCKETS); i++)
                buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", m->name, m->labels, comma, BUCKETS[i],
                           (unsigned long long)m->buckets[i]);
        buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", m->name, m->labels, comma, (unsigned long long)m->count);
        buf_printf(out, "%s_sum{%s} %.9g\n%s_count{%s} %llu\n", m->name, m->labels, m->value, m->name, m->labels,
                   (unsigned long long)m->count);
}

void metrics_print(struct buf *out)
{
        static const char *const kinds[] = { "counter", "gauge", "histogram" };
        const char *previous = "";

        for (const struct metric *m = first; m != NULL; m = m->next) {
                if (strcmp(previous, m->name) != 0)
                        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, kinds[m->kind]);
                previous = m->name;
                if (m->kind == METRIC_HISTOGRAM)
                        print_histogram(out, m);
                else if (*m->labels)
                        buf_printf(out, "%s{%s} %.15g\n", m->name, m->labels, m->value);
                else
                        buf_printf(out, "%s %.15g\n", m->name, m->value);
        }
}
