/* Metrics, as Prometheus reads them. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/metrics.h"

/* Counts how often part is in text. */
static int times(const char *text, const char *part)
{
        int count = 0;

        for (; (text = strstr(text, part)) != NULL; text += strlen(part))
                count++;
        return count;
}

static void test_metrics_of_one_name_stand_together_under_one_heading(void **state)
{
        struct metric *accepted = metric_counter("unit_requests_total", "result=\"accepted\"", "Requests.");
        struct metric *depth = metric_gauge("unit_depth", NULL, "Depth.");
        struct metric *refused = metric_counter("unit_requests_total", "result=\"refused\"", "Requests.");
        auto_buf out = { 0 };

        (void)state;
        assert_ptr_equal(metric_counter("unit_requests_total", "result=\"accepted\"", "Requests."), accepted);
        assert_ptr_equal(metric_gauge("unit_depth", NULL, "Depth."), depth);
        metric_add(accepted, 1);
        metric_add(accepted, 1e9);
        metric_add(refused, 3);
        metric_set(depth, -2.5);
        metrics_print(&out);
        assert_contains(out.data, "# HELP unit_requests_total Requests.\n# TYPE unit_requests_total counter\n"
                                  "unit_requests_total{result=\"accepted\"} 1000000001\n"
                                  "unit_requests_total{result=\"refused\"} 3\n");
        assert_contains(out.data, "# HELP unit_depth Depth.\n# TYPE unit_depth gauge\nunit_depth -2.5\n");
        assert_int_equal(times(out.data, "# TYPE unit_requests_total "), 1);
}

static void test_histogram_buckets_are_cumulative_and_end_in_infinity(void **state)
{
        struct metric *plain = metric_histogram("unit_seconds", NULL, "Time.");
        struct metric *labelled = metric_histogram("unit_route_seconds", "route=\"signups\"", "Time by route.");
        auto_buf out = { 0 };

        (void)state;
        metric_observe(plain, 0.001); /* le means less or equal */
        metric_observe(plain, 0.3);
        metric_observe(plain, 61);
        metric_observe(labelled, 2);
        metrics_print(&out);
        assert_contains(out.data, "# TYPE unit_seconds histogram\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"0.001\"} 1\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"0.25\"} 1\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"0.5\"} 2\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"60\"} 2\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"+Inf\"} 3\n");
        assert_contains(out.data, "61.301\n");
        assert_contains(out.data, "unit_route_seconds_bucket{route=\"signups\",le=\"2.5\"} 1\n");
        assert_contains(out.data, "unit_route_seconds_sum{route=\"signups\"} 2\n");
        assert_contains(out.data, "unit_route_seconds_count{route=\"signups\"} 1\n");
}

static void test_values_that_come_later_are_escaped_and_limited(void **state)
{
        struct metric_family *family = metric_counter_family("unit_failures_total", "step,code", "Failures.");
        auto_buf out = { 0 };
        char code[16];

        (void)state;
        assert_ptr_equal(metric_counter_family("unit_failures_total", "step,code", "Failures."), family);
        metric_add(METRIC_OF(family, "say \"a\\b\"", "x\ny"), 1);
        metric_add(METRIC_OF(family, "say \"a\\b\"", "x\ny"), 1);
        for (int i = 0; i < METRIC_FAMILY_LIMIT + 9; i++) {
                snprintf(code, sizeof(code), "c%d", i);
                metric_add(METRIC_OF(family, "apply", code), 1);
        }
        metrics_print(&out);
        assert_contains(out.data, "# TYPE unit_failures_total counter\n"
                                  "unit_failures_total{step=\"say \\\"a\\\\b\\\"\",code=\"x\\ny\"} 2\n");
        assert_contains(out.data, "unit_failures_total{step=\"other\",code=\"other\"} 10\n");
        assert_int_equal(times(out.data, "\nunit_failures_total{"), METRIC_FAMILY_LIMIT + 1);
        metric_family_set(family, 0);
        buf_reset(&out);
        metrics_print(&out);
        assert_contains(out.data, "unit_failures_total{step=\"other\",code=\"other\"} 0\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_metrics_of_one_name_stand_together_under_one_heading),
                SENTENCE(test_values_that_come_later_are_escaped_and_limited),
                SENTENCE(test_histogram_buckets_are_cumulative_and_end_in_infinity),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
