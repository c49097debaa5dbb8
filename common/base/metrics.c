/* Prometheus metrics: see metrics.h. */
#include "common/base/metrics.h"

#include "common/base/memory.h"

#include <stdlib.h>
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

struct metric_family {
        struct metric_family *next;
        enum metric_kind kind;
        const char *name, *labels, *help;
        size_t count;
};

static struct metric *first;
static struct metric_family *first_family;

/* NULL if there is none yet; then *ret_place is where to add it: behind the last one with the same name, as the text
 * format requires metrics with the same name to be grouped. */
static struct metric *metric_find(const char *name, const char *labels, struct metric ***ret_place)
{
        struct metric **at = &first;

        *ret_place = NULL;
        for (; *at != NULL; at = &(*at)->next) {
                if (strcmp((*at)->name, name) != 0)
                        continue;
                if (strcmp((*at)->labels, labels) == 0)
                        return *at;
                *ret_place = &(*at)->next;
        }
        if (*ret_place == NULL)
                *ret_place = at;
        return NULL;
}

static struct metric *metric_add_new(struct metric **place, enum metric_kind kind, const char *name, const char *labels,
                                     const char *help)
{
        struct metric *metric = NEW(struct metric);

        *metric = (struct metric){ .next = *place, .kind = kind, .name = name, .labels = labels, .help = help };
        return *place = metric;
}

static struct metric *metric_find_or_add(enum metric_kind kind, const char *name, const char *labels, const char *help)
{
        struct metric **place, *found = metric_find(name, labels ? labels : "", &place);

        return found ? found : metric_add_new(place, kind, name, labels ? labels : "", help);
}

struct metric *metric_counter(const char *name, const char *labels, const char *help)
{
        return metric_find_or_add(METRIC_COUNTER, name, labels, help);
}

struct metric *metric_gauge(const char *name, const char *labels, const char *help)
{
        return metric_find_or_add(METRIC_GAUGE, name, labels, help);
}

struct metric *metric_histogram(const char *name, const char *labels, const char *help)
{
        return metric_find_or_add(METRIC_HISTOGRAM, name, labels, help);
}

static struct metric_family *metric_find_or_add_family(enum metric_kind kind, const char *name, const char *labels,
                                                       const char *help)
{
        struct metric_family *family = first_family;

        while (family != NULL && strcmp(family->name, name) != 0)
                family = family->next;
        if (family != NULL)
                return family;
        family = NEW(struct metric_family);
        *family = (struct metric_family){
                .next = first_family, .kind = kind, .name = name, .labels = labels, .help = help
        };
        return first_family = family;
}

struct metric_family *metric_counter_family(const char *name, const char *labels, const char *help)
{
        return metric_find_or_add_family(METRIC_COUNTER, name, labels, help);
}

struct metric_family *metric_gauge_family(const char *name, const char *labels, const char *help)
{
        return metric_find_or_add_family(METRIC_GAUGE, name, labels, help);
}

static void metric_add_value(struct buf *out, const char *value)
{
        for (; *value != '\0'; value++)
                if (*value == '\n')
                        buf_add_text(out, "\\n");
                else
                        buf_printf(out, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
}

/* `kind="access",step="apply"`; without values, "other" for each. */
static char *metric_print_labels(const struct metric_family *family, const char *const *values)
{
        struct buf out = { 0 };
        const char *name = family->labels;

        for (size_t i = 0; *name != '\0'; i++) {
                size_t length = strcspn(name, ",");

                buf_printf(&out, "%s%.*s=\"", i > 0 ? "," : "", (int)length, name);
                metric_add_value(&out, values ? values[i] : "other");
                buf_add_text(&out, "\"");
                name += length + (name[length] == ',');
        }
        return buf_take(&out);
}

struct metric *metric_of(struct metric_family *family, const char *const *values)
{
        char *labels = metric_print_labels(family, values);
        struct metric **place, *found = metric_find(family->name, labels, &place);

        if (found == NULL && family->count == METRIC_FAMILY_LIMIT) {
                free(labels);
                labels = metric_print_labels(family, NULL);
                found = metric_find(family->name, labels, &place);
        }
        if (found != NULL) {
                free(labels);
                return found;
        }
        if (family->count < METRIC_FAMILY_LIMIT)
                family->count++;
        /* Takes ownership of labels. */
        return metric_add_new(place, family->kind, family->name, labels, family->help);
}

void metric_family_set(struct metric_family *family, double value)
{
        for (struct metric *metric = first; metric != NULL; metric = metric->next)
                if (strcmp(metric->name, family->name) == 0)
                        metric->value = value;
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

static void metric_print_histogram(struct buf *out, const struct metric *m)
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
                        metric_print_histogram(out, m);
                else if (*m->labels)
                        buf_printf(out, "%s{%s} %.15g\n", m->name, m->labels, m->value);
                else
                        buf_printf(out, "%s %.15g\n", m->name, m->value);
        }
}
