/* The operations port: see ops.h. */
#include "common/service/ops.h"

#include "common/base/metrics.h"
#include "common/service/process_metrics.h"

static void ops_answer_health(struct http_request *request, void *context)
{
        (void)context;
        http_answer_json(request, 200, json_pack("{s:s}", "status", "alive"));
}

static void ops_answer_ready(struct http_request *request, void *context)
{
        struct service *service = context;
        struct err err = { 0 };
        int rc = service->stopping || service->draining ? err_set(&err, ERR_BUSY, "stopping", "the service is stopping")
                                                        : service->definition->ready(service, &err);

        if (rc == 0)
                http_answer_json(request, 200, json_pack("{s:s}", "status", "ready"));
        else
                http_answer_problem(request, 503, err.code, NULL, err.message);
}

static void ops_answer_metrics(struct http_request *request, void *context)
{
        const struct service *service = context;
        auto_buf text = { 0 };

        process_metrics_look();
        metric_set(metric_gauge("tenantry_catalog_up", NULL, "1 while the catalog answers and matches the program."),
                   pg_pool_is_up(service->catalog));
        metrics_print(&text);
        http_answer(request, 200, "text/plain; version=0.0.4", text.data ? text.data : "", text.length);
}

static const struct http_route ROUTES[] = {
        { .method = "GET", .path = "/healthz", .handle = ops_answer_health },
        { .method = "GET", .path = "/readyz", .handle = ops_answer_ready },
        { .method = "GET", .path = "/metrics", .handle = ops_answer_metrics },
        { .method = NULL },
};

int ops_server_new(struct service *service, struct http_server **ret, struct err *err)
{
        static const struct http_limits limits = {
                .body_bytes = 1024,
                .connections = 64,
                .per_address = 32,
                .read_ms = SECONDS(10),
                .answer_ms = SECONDS(5),
        };

        return http_server_new(&service->loop, service->config->ops_address, (int)service->config->ops_port, ROUTES,
                               &limits, service, ret, err);
}
