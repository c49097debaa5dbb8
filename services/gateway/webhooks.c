/* POST /api/webhooks/stripe: what Stripe has signed is kept in Kafka as it came, and applied later by somebody else.
 * Only Kafka is needed: neither PostgreSQL nor Stripe is asked anything. */
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/contracts/billing.h"
#include "common/contracts/stripe_envelope.h"
#include "common/contracts/stripe_signature.h"
#include "common/kafka/cloudevent.h"
#include "services/gateway/gateway.h"
#include "services/gateway/pending.h"

#include <string.h>

#define LOG_INTERVAL MINUTES(1)

/* One delivery, until Kafka has it. */
struct webhook {
        struct pending pending; /* first */
        char *event_id;
};

static void webhook_release(struct pending *pending)
{
        struct webhook *webhook = (struct webhook *)pending;

        free(webhook->event_id);
        free(webhook);
}

static void webhook_count(const char *outcome)
{
        static struct metric_family *deliveries;

        if (deliveries == NULL)
                deliveries = metric_counter_family("tenantry_webhooks_total", "outcome",
                                                   "Deliveries of Stripe's webhooks, by outcome.");
        metric_add(METRIC_OF(deliveries, outcome), 1);
}

/* Stripe shows the answer in its dashboard, and tries again for three days. Anybody may send nonsense, as often as he
 * likes: the log has one line a minute. */
static void webhook_refuse(struct http_request *request, const struct err *err)
{
        static int64_t told = -LOG_INTERVAL;
        int64_t now = clock_boot_ms();

        webhook_count(err->code);
        if (now - told >= LOG_INTERVAL) {
                told = now;
                log_warn("a webhook was refused", "code", err->code, "from", http_address(request), NULL);
        }
        http_answer_error(request, err);
}

/* What is about one customer is read in the order in which it came. */
static char *webhook_key(const struct stripe_envelope *event)
{
        return mem_printf("%s/%s/%s", event->livemode ? "live" : "test", event->account, event->customer);
}

static int webhook_check(const struct gateway *gateway, const struct stripe_envelope *event, struct err *err)
{
        if (event->livemode == gateway->config->stripe_livemode)
                return 0;
        return err_set(err, ERR_INPUT, "wrong_mode", "this gateway takes events of %s mode (STRIPE_LIVEMODE)",
                       gateway->config->stripe_livemode ? "live" : "test");
}

static int webhook_read(const struct gateway *gateway, struct http_request *request, struct stripe_envelope *ret,
                        struct err *err)
{
        size_t length;
        const char *body = http_body(request, &length);

        if (stripe_signature_check(gateway->stripe_secrets, http_header(request, "Stripe-Signature"), body, length,
                                   clock_wall_ms() / 1000, STRIPE_TOLERANCE_S, err) < 0 ||
            stripe_envelope_read(body, length, ret, err) < 0)
                return -ERR_INPUT;
        return webhook_check(gateway, ret, err);
}

static void webhook_delivered(void *context, const struct err *err)
{
        struct webhook *webhook = context;
        struct http_request *request;

        FAILPOINT(gateway_after_ack, NULL);
        webhook_count(err == NULL ? "accepted" : "unavailable");
        request = pending_done(&webhook->pending);
        if (request == NULL)
                return;
        if (err != NULL)
                pending_answer_untaken(request, err);
        else
                http_answer_json(request, 200, json_pack("{s:s}", "id", webhook->event_id));
}

static void webhook_publish(struct gateway *gateway, struct http_request *request,
                            const struct stripe_envelope *received)
{
        struct webhook *webhook = NEW(struct webhook);
        auto_free char *key = webhook_key(received);
        size_t length;
        const char *body = http_body(request, &length);
        char time[25];
        struct cloudevent_out event = {
                .topic = STRIPE_TOPIC,
                .key = key,
                .id = received->id,
                .source = "/stripe",
                .type = STRIPE_EVENT,
                .time = time,
                .data = body,
                .raw_length = length,
        };
        struct err err;

        clock_format(clock_wall_ms(), time);
        webhook->event_id = mem_copy_text(event.id);
        pending_begin(&webhook->pending, request, webhook_release);
        if (FAILPOINT(gateway_before_produce, &err) < 0 ||
            cloudevent_produce(gateway->producer, &event, webhook_delivered, webhook, &err) < 0)
                webhook_delivered(webhook, &err);
}

void stripe_webhook_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct stripe_envelope event;
        struct err err;

        (void)caller; /* whoever has the secret */
        if (gateway->stripe_secrets == NULL) {
                webhook_count("stripe_not_configured");
                http_answer_problem(request, 503, "stripe_not_configured", NULL, "STRIPE_WEBHOOK_SECRET is not set");
                return;
        }
        if (webhook_read(gateway, request, &event, &err) < 0)
                webhook_refuse(request, &err);
        else
                webhook_publish(gateway, request, &event);
}
