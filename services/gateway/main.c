/* The gateway: authenticates, checks, publishes, answers; reads from the catalog; holds no state. This file names its
 * parts. */
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/contracts/billing.h"
#include "common/durable/publisher.h"
#include "services/gateway/gateway.h"
#include "services/gateway/limiter.h"
#include "services/gateway/load.h"
#include "services/gateway/recent.h"
#include "services/gateway/streams.h"
#include "services/gateway/token_report.h"
#include "services/gateway/waiters.h"

#include <sys/resource.h>

#define BODY_LIMIT  (64 * 1024)
#define LARGE_LIMIT (32 * 1024 * 1024) /* of all bodies together, beyond that */
#define OWN_FILES   200

#define LINKS_PER_HOUR 20  /* sign-in links of one tenant: each makes an operation, and a call to the provider */
#define LOOKS_PER_HOUR 600 /* of one address: each reads the catalog, and needs neither token nor link */

/* The first one only where webhooks are configured. */
static const char *const TOPICS[] = { STRIPE_TOPIC,          "tenant.signup.v1",    "tenant.command.v1",
                                      "tenant.migration.v1", BILLING_COMMAND_TOPIC, NULL };

/* librdkafka cannot use it any more: the supervisor restarts us. */
static void gateway_producer_died(void *context, const struct err *err)
{
        struct gateway *gateway = context;

        service_give_up(gateway->service, err);
}

/* Peers must not use up the descriptors that Kafka, PostgreSQL and log files need. The frame has raised our limit as
 * far as possible. */
static void gateway_leave_files_for_ourselves(struct http_limits *limits)
{
        struct rlimit files;
        auto_free char *most = NULL;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= limits->connections + OWN_FILES)
                return;
        limits->connections = (unsigned)MAX(files.rlim_cur, 2 * OWN_FILES) - OWN_FILES;
        limits->per_address = MIN(limits->per_address, limits->connections);
        most = mem_printf("%u", limits->connections);
        log_warn("fewer connections than CONNECTIONS says: the process may not open more files (ulimit -n)",
                 "connections", most, NULL);
}

/* Revoking a token ends the streams opened with it. */
static void gateway_tokens_changed(void *context)
{
        struct gateway *gateway = context;

        streams_end_refused(gateway->streams);
        streams_end_refused(gateway->run_streams);
}

static int gateway_start(struct service *service, const void *config, struct err *err)
{
        struct gateway *gateway = NEW(struct gateway);
        const struct gateway_config *c = gateway->config = config;
        struct http_limits limits = {
                .body_bytes = BODY_LIMIT,
                .large_bytes = LARGE_LIMIT,
                .connections = (unsigned)c->connections,
                .per_address = (unsigned)c->connections_per_address,
                .read_ms = c->read_timeout_ms,
                .answer_ms = c->message_timeout_ms + c->max_wait_ms + SECONDS(5),
        };
        int rc;

        service->state = gateway;
        gateway->service = service;
        gateway_leave_files_for_ourselves(&limits);
        rc = keyring_parse("APP_KEYS", c->keys.app_keys, &gateway->app_keys, err);
        if (rc == 0)
                rc = tokens_new(&service->loop, c->tokens, &gateway->tokens, err);
        if (rc == 0)
                rc = proxies_parse("TRUSTED_PROXIES", c->trusted_proxies, &gateway->proxies, err);
        if (rc == 0)
                rc = stripe_secrets_parse("STRIPE_WEBHOOK_SECRET", c->stripe_webhook_secret, &gateway->stripe_secrets,
                                          err);
        if (rc == 0)
                rc = plan_list_new(c->plans.plans, &gateway->plan_list, err);
        if (rc == 0)
                rc = kafka_producer_new(&service->loop, &service->kafka, (int)c->message_timeout_ms,
                                        gateway->stripe_secrets ? TOPICS : TOPICS + 1, gateway_producer_died, gateway,
                                        &gateway->producer, err);
        if (rc < 0)
                return rc;
        limits.proxies = gateway->proxies;
        gateway->public_signups = limiter_new(c->public_signup_per_hour);
        gateway->recent = recent_new();
        gateway->waiters = waiters_new(gateway);
        gateway->links = limiter_new(LINKS_PER_HOUR);
        gateway->looks = limiter_new(LOOKS_PER_HOUR);
        gateway->load = load_new(gateway);
        gateway->token_report = token_report_new(gateway);
        gateway->publisher = publisher_new(service);
        gateway->streams = streams_new(gateway, &STREAM_OF_TENANTS, err);
        if (gateway->streams == NULL)
                return -ERR_INPUT;
        gateway->run_streams = streams_new(gateway, &STREAM_OF_RUNS, err);
        if (gateway->run_streams == NULL)
                return -ERR_INPUT;
        tokens_on_change(gateway->tokens, gateway_tokens_changed, gateway);
        return http_server_new(&service->loop, c->address, (int)c->port, GATEWAY_ROUTES, &limits, gateway,
                               &gateway->server, err);
}

/* Ingest needs only Kafka: the gateway is ready even without the catalog. But not with a catalog that is too old, since
 * that does not resolve itself. */
static int gateway_ready(struct service *service, struct err *err)
{
        struct gateway *gateway = service->state;

        if (kafka_producer_check(gateway->producer, err) < 0)
                return -(int)err->class;
        if (pg_pool_error(service->catalog)->class == ERR_OURS)
                return service_catalog_fits(service, err);
        return 0;
}

static int64_t gateway_drain(struct service *service)
{
        struct gateway *gateway = service->state;

        http_server_drain(gateway->server);
        return gateway->config->drain_ms;
}

static void gateway_stop(struct service *service)
{
        struct gateway *gateway = service->state;

        http_server_stop_listening(gateway->server);
        publisher_stop(gateway->publisher);
}

static bool gateway_idle(struct service *service)
{
        struct gateway *gateway = service->state;

        return http_server_waiting(gateway->server) == 0 && publisher_is_idle(gateway->publisher);
}

static void gateway_finish(struct service *service)
{
        struct gateway *gateway = service->state;

        kafka_producer_free(TAKE_PTR(gateway->producer), 700); /* requests Kafka took meanwhile get 202 */
        waiters_free(gateway->waiters);
        http_server_free(gateway->server);
        publisher_free(gateway->publisher);
        streams_free(gateway->streams);
        streams_free(gateway->run_streams);
        load_free(gateway->load);
        token_report_free(gateway->token_report);
        limiter_free(gateway->public_signups);
        limiter_free(gateway->links);
        limiter_free(gateway->looks);
        recent_free(gateway->recent);
        tokens_free(gateway->tokens);
        keyring_free(gateway->app_keys);
        proxies_free(gateway->proxies);
        stripe_secrets_free(gateway->stripe_secrets);
        plan_list_free(gateway->plan_list);
        free(gateway);
}

int main(int argc, char **argv)
{
        const struct config_table tables[] = {
                GATEWAY_OPTIONS,
                config_at(&APP_KEY_OPTIONS, offsetof(struct gateway_config, keys)),
                config_at(&LINK_OPTIONS, offsetof(struct gateway_config, links)),
                config_at(&PLAN_OPTIONS, offsetof(struct gateway_config, plans)),
        };
        const struct service_definition definition = {
                .name = "gateway",
                .purpose = "accepts requests, hands them to Kafka, reports what became of them",
                .schema = "gateway",
                .tables = tables,
                .table_count = ARRAY_SIZE(tables),
                .config_size = sizeof(struct gateway_config),
                .start = gateway_start,
                .ready = gateway_ready,
                .drain = gateway_drain,
                .stop = gateway_stop,
                .idle = gateway_idle,
                .finish = gateway_finish,
        };

        return service_main(argc, argv, &definition);
}
