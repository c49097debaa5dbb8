/* The parts of the gateway, as its endpoints see them. */
#pragma once

#include "common/base/keyring.h"
#include "common/contracts/stripe_signature.h"
#include "common/kafka/producer.h"
#include "common/net/http_server.h"
#include "services/gateway/config.h"
#include "services/gateway/tokens.h"

struct gateway {
        struct service *service;
        const struct gateway_config *config;
        struct keyring *app_keys;
        struct tokens *tokens;
        struct token_report *token_report;
        struct stripe_secrets *stripe_secrets; /* NULL: webhooks are not configured */
        struct plan_list *plan_list;           /* what GET /api/plans answers */
        struct proxies *proxies;
        struct limiter *public_signups, *links, *looks;
        struct kafka_producer *producer;
        struct http_server *server;
        struct waiters *waiters;
        struct streams *streams, *run_streams;
        struct recent *recent;
        struct load *load;
        struct publisher *publisher;
        int64_t signups_in_progress; /* as last read from the catalog */
};

/* An endpoint: who may call it, and its handler. */
struct endpoint {
        enum scope scope; /* SCOPE_NONE: anyone */
        void (*answer)(struct gateway *gateway, struct http_request *request, const char *caller);
        const char *command; /* for the endpoints that send a command, or an event of this type */
        bool confirmed;      /* the body's confirm must be the tenant's subdomain */
};

/* All routes; ends with a NULL method. */
extern const struct http_route GATEWAY_ROUTES[];

/* The plans as they are answered, made once at the start. Returns 0 and *ret, or -ERR_INPUT. Freed with plan_list_free.
 */
int plan_list_new(const char *file, struct plan_list **ret, struct err *err);
void plan_list_free(struct plan_list *list);

/* The endpoints, by file. */
void signup_post(struct gateway *gateway, struct http_request *request, const char *caller);
void command_post(struct gateway *gateway, struct http_request *request, const char *caller);
void operations_get(struct gateway *gateway, struct http_request *request, const char *caller);
void tenants_get(struct gateway *gateway, struct http_request *request, const char *caller);
void tenant_get(struct gateway *gateway, struct http_request *request, const char *caller);
void connection_get(struct gateway *gateway, struct http_request *request, const char *caller);
void operation_get(struct gateway *gateway, struct http_request *request, const char *caller);
void inventory_get(struct gateway *gateway, struct http_request *request, const char *caller);
void alerts_get(struct gateway *gateway, struct http_request *request, const char *caller);
void alert_resolve(struct gateway *gateway, struct http_request *request, const char *caller);
void dead_letters_get(struct gateway *gateway, struct http_request *request, const char *caller);
void dead_letter_get(struct gateway *gateway, struct http_request *request, const char *caller);
void dead_letter_delete(struct gateway *gateway, struct http_request *request, const char *caller);
void dead_letter_replay(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_file_post(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_files_get(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_file_get(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_run_post(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_command_post(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_signal_post(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_status_get(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_drift_post(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_drift_get(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_drifted_get(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_run_get(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_tenants_get(struct gateway *gateway, struct http_request *request, const char *caller);
void migration_stream_get(struct gateway *gateway, struct http_request *request, const char *caller);
void stream_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_page_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_page_post(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_back_get(struct gateway *gateway, struct http_request *request, const char *caller);
void invite_get(struct gateway *gateway, struct http_request *request, const char *caller);
void invite_post(struct gateway *gateway, struct http_request *request, const char *caller);
void invite_check_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_events_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_event_replay(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_held_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_release_post(struct gateway *gateway, struct http_request *request, const char *caller);
void entitlements_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_request_post(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_command_post(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_reconcile_get(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_reconcile_post(struct gateway *gateway, struct http_request *request, const char *caller);
void billing_forecast_get(struct gateway *gateway, struct http_request *request, const char *caller);
void stripe_webhook_post(struct gateway *gateway, struct http_request *request, const char *caller);
void plans_get(struct gateway *gateway, struct http_request *request, const char *caller);
