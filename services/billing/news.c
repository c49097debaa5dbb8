/* What the catalog is told at start, and what has become of tenants: see news.h. */
#include "services/billing/news.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/worker.h"
#include "common/service/periodic.h"

#include <string.h>

#define INTERVAL 500 /* ms: how long a new tenant waits for its trial */
#define RETRY    SECONDS(5)
#define TIMEOUT  SECONDS(30)
#define AT_ONCE  200 /* tenants in one transaction */

static const char SQL_CONFIGURE[] = "select configure($1::jsonb, $2::boolean), know_stripe($3::boolean)";
static const char SQL_TAKE[] = "select take_news($1::int, $2::boolean) as taken";

struct news {
        struct billing *billing;
        bool configured;
        int64_t wait_until; /* on the boot clock: something has failed */
        struct periodic *periodic;
};

static void news_configured(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct news *news = context;

        (void)rows;
        if (err != NULL) {
                log_warn("the catalog could not be told the plans yet", "error", err->message, NULL);
                news->wait_until = clock_boot_ms() + RETRY;
                return;
        }
        news->configured = true;
        periodic_act(news->periodic);
}

static void news_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct news *news = context;
        int64_t taken;

        if (err != NULL) {
                log_warn("news of tenants could not be taken", "error", err->message, NULL);
                news->wait_until = clock_boot_ms() + RETRY;
                return;
        }
        taken = pg_int(rows, 0, "taken");
        if (taken > 0)
                worker_wake(news->billing->worker);
        if (taken == AT_ONCE)
                periodic_act(news->periodic);
}

static void news_configure(struct news *news)
{
        auto_free char *text = json_print(news->billing->plans->document);

        periodic_ask(news->periodic, TIMEOUT, SQL_CONFIGURE,
                     PARAMS(text, news->billing->config->livemode ? "true" : "false",
                            news->billing->account.secret_key ? "true" : "false"),
                     news_configured);
}

static void news_act(void *context)
{
        struct news *news = context;
        auto_free char *limit = NULL;

        if (clock_boot_ms() < news->wait_until)
                return;
        if (!news->configured) {
                news_configure(news);
                return;
        }
        limit = mem_printf("%d", AT_ONCE);
        periodic_ask(news->periodic, TIMEOUT, SQL_TAKE,
                     PARAMS(limit, strcmp(news->billing->config->existing_tenants, "trial") == 0 ? "true" : "false"),
                     news_taken);
}

struct news *news_new(struct billing *billing)
{
        struct news *news = NEW(struct news);

        news->billing = billing;
        news->periodic = periodic_new(billing->service, 0, INTERVAL, news_act, news);
        return news;
}

bool news_is_configured(const struct news *news)
{
        return news->configured;
}

void news_free(struct news *news)
{
        if (news == NULL)
                return;
        periodic_free(news->periodic);
        free(news);
}
