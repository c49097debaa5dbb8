/* Billing: applies what Stripe tells, in any order, to one result for each tenant, and says what its tenant may use.
 * This file names its parts. */
#include "common/base/memory.h"
#include "common/contracts/billing.h"
#include "common/durable/worker.h"
#include "services/billing/fetcher.h"
#include "services/billing/kinds.h"
#include "services/billing/news.h"
#include "services/billing/payer.h"
#include "services/billing/reconciler.h"
#include "services/billing/retention.h"
#include "services/billing/sender.h"

#define SAGAS 32 /* in hand at once */

static const struct saga_kind *const KINDS[] = {
        &CHECKOUT, &PORTAL, &CHANGE_PLAN, &CANCEL, &RESUME, &PREVIEW, &END_SUBSCRIPTION, &END_DUPLICATE, NULL,
};

static void billing_facts_changed(void *context)
{
        struct billing *billing = context;

        fetcher_wake(billing->fetcher);
        sender_wake(billing->sender);
        payer_wake(billing->payer);
}

static int billing_start(struct service *service, const void *config, struct err *err)
{
        struct billing *billing = NEW(struct billing);
        const struct billing_config *c = billing->config = config;
        struct worker_settings worker = {
                .group = "tenantry-billing",
                .contracts = BILLING_CONTRACTS,
                .together = STRIPE_TOPIC, /* an event locks its tenant and what is the tenant's */
                .kinds = KINDS,
                .sagas = SAGAS,
                .has_timers = true,
                .changed = billing_facts_changed,
                .context = billing,
        };
        int rc;

        service->state = billing;
        billing->service = service;
        rc = plans_load(c->plans.plans, &billing->plans, err);
        if (rc == 0)
                rc = keyring_parse("APP_KEYS", c->keys.app_keys, &billing->app_keys, err);
        if (rc < 0)
                return rc;
        billing->account = (struct stripe_account){ .url = c->stripe.api_url, .secret_key = c->stripe.secret_key };
        billing->fetcher = fetcher_new(billing);
        billing->payer = payer_new(billing);
        billing->reconciler = reconciler_new(billing);
        billing->news = news_new(billing);
        billing->retention = retention_new(billing);
        rc = sender_new(billing, &billing->sender, err);
        if (rc < 0)
                return rc;
        return worker_new(service, &worker, &billing->worker, err);
}

static int billing_ready(struct service *service, struct err *err)
{
        struct billing *billing = service->state;

        if (worker_ready(billing->worker, err) < 0)
                return -ERR_BUSY;
        if (!news_is_configured(billing->news))
                return err_set(err, ERR_BUSY, "starting", "the catalog has not been told the plans yet");
        return 0;
}

static void billing_stop(struct service *service)
{
        struct billing *billing = service->state;

        worker_stop(billing->worker);
        fetcher_stop(billing->fetcher);
        sender_stop(billing->sender);
        payer_stop(billing->payer);
        reconciler_stop(billing->reconciler);
}

static bool billing_idle(struct service *service)
{
        struct billing *billing = service->state;

        return fetcher_is_idle(billing->fetcher) && sender_is_idle(billing->sender) && payer_is_idle(billing->payer) &&
               reconciler_is_idle(billing->reconciler) && worker_is_idle(billing->worker);
}

static void billing_finish(struct service *service)
{
        struct billing *billing = service->state;

        worker_free(billing->worker);
        news_free(billing->news);
        retention_free(billing->retention);
        sender_free(billing->sender);
        payer_free(billing->payer);
        reconciler_free(billing->reconciler);
        fetcher_free(billing->fetcher);
        plans_free(billing->plans);
        keyring_free(billing->app_keys);
        free(billing);
}

int main(int argc, char **argv)
{
        const struct config_table tables[] = {
                BILLING_OPTIONS,
                config_at(&APP_KEY_OPTIONS, offsetof(struct billing_config, keys)),
                config_at(&PLAN_OPTIONS, offsetof(struct billing_config, plans)),
                config_at(&STRIPE_OPTIONS, offsetof(struct billing_config, stripe)),
                config_at(&LINK_OPTIONS, offsetof(struct billing_config, links)),
                config_at(&MAIL_OPTIONS, offsetof(struct billing_config, mail)),
        };
        const struct service_definition definition = {
                .name = "billing",
                .purpose = "applies what Stripe tells, and says what each tenant may use",
                .schema = "billing",
                .tables = tables,
                .table_count = ARRAY_SIZE(tables),
                .config_size = sizeof(struct billing_config),
                .start = billing_start,
                .ready = billing_ready,
                .stop = billing_stop,
                .idle = billing_idle,
                .finish = billing_finish,
        };

        return service_main(argc, argv, &definition);
}
