/* Alerts on their way to people: see alerter.h. */
#include "common/durable/alerter.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/lease.h"
#include "common/net/http_client.h"
#include "common/service/periodic.h"

#include <string.h>

#define INTERVAL       SECONDS(5)
#define CALL_TIMEOUT   SECONDS(10)
#define DOUBTFUL_DELAY MINUTES(20) /* between mails, while the mail server does not acknowledge them */

static const char SQL_PENDING[] = "select * from catalog.alerts_to_deliver($1::text[])";

static const char SQL_TOLD[] = "select catalog.alert_told($1::bigint, $2::text[], $3::boolean)";

struct alerter {
        struct service *service;
        const struct alert_config *config;
        struct mailer *mailer;
        struct periodic *periodic;
        struct lease *lease;
        size_t under_way;
        size_t mails; /* being sent: they take as long as the mail server, and no round waits for them */
        int64_t mails_from;
};

struct alert;

/* One way to notify people; channels[] of an alert says which ones are due. */
struct channel {
        struct alert *alert;
        const char *name;
        bool due, told;
};

enum { LOG, WEBHOOK, MAIL, CHANNELS };

static const char *const NAMES[CHANNELS] = { [LOG] = "log", [WEBHOOK] = "webhook", [MAIL] = "mail" };

/* One alert on some of its channels; done when all of these have answered. */
struct alert {
        struct alerter *alerter;
        size_t *counter; /* among those under way: the round's, or the mails' */
        char *id, *cause, *tenant, *title, *detail;
        struct channel channels[CHANNELS];
        int waiting;
};

static void alerter_marked(void *context, const struct pg_rows *rows, const struct err *err)
{
        size_t *counter = context;

        (void)rows;
        (void)err; /* then it is delivered again: better twice than never */
        --*counter;
}

static void alerter_free_alert(struct alert *alert)
{
        free(alert->id);
        free(alert->cause);
        free(alert->tenant);
        free(alert->title);
        free(alert->detail);
        free(alert);
}

/* A channel that succeeded is not used again, even if another one refused. */
static void alerter_record(struct alert *alert)
{
        struct alerter *alerter = alert->alerter;
        auto_buf told = { 0 };
        bool all = true;

        buf_add_text(&told, "{");
        for (int i = 0; i < CHANNELS; i++) {
                all &= !alert->channels[i].due || alert->channels[i].told;
                if (alert->channels[i].told)
                        buf_printf(&told, "%s%s", told.length > 1 ? "," : "", NAMES[i]);
        }
        buf_add_text(&told, "}");
        if (alerter->service->stopping)
                --*alert->counter;
        else
                pg_pool_exec(alerter->service->catalog, SECONDS(5), SQL_TOLD,
                             PARAMS(alert->id, told.data, all ? "true" : "false"), alerter_marked, alert->counter);
        alerter_free_alert(alert);
}

static void alerter_channel_ended(struct channel *channel, const struct err *err)
{
        struct alert *alert = channel->alert;

        channel->told = err == NULL;
        if (err != NULL)
                log_warn("an alert could not be delivered; it will be tried again", "cause", alert->cause, "channel",
                         channel->name, "error", err->message, NULL);
        if (--alert->waiting == 0)
                alerter_record(alert);
}

static void alerter_webhook_answered(void *context, const struct http_reply *reply, const struct err *err)
{
        struct err refused;

        if (err == NULL && (reply->status < 200 || reply->status > 299)) {
                err_set(&refused, ERR_BUSY, "webhook_refused", "the alert webhook answers %d", reply->status);
                err = &refused;
        }
        alerter_channel_ended(context, err);
}

static void alerter_post(struct alert *alert)
{
        auto_json *body = json_pack("{s:s, s:s, s:s?, s:s, s:s}", "alert_id", alert->id, "cause", alert->cause,
                                    "tenant_id", alert->tenant, "title", alert->title, "detail", alert->detail);
        auto_free char *text = json_print(body);

        http_client_call(alert->alerter->service->transfers,
                         &(struct http_call){
                                 .method = "POST",
                                 .url = alert->alerter->config->webhook,
                                 .headers = (const char *[]){ "Content-Type: application/json", NULL },
                                 .body = text,
                                 .timeout_ms = CALL_TIMEOUT,
                         },
                         alerter_webhook_answered, &alert->channels[WEBHOOK]);
}

static void alerter_mail_ended(void *context, const struct err *err)
{
        struct channel *channel = context;

        if (err != NULL && strcmp(err->code, "mail_doubtful") == 0)
                channel->alert->alerter->mails_from = clock_boot_ms() + DOUBTFUL_DELAY;
        alerter_channel_ended(channel, err);
}

static void alerter_mail(struct alert *alert)
{
        struct alerter *alerter = alert->alerter;
        auto_free char *subject = mem_printf("Tenantry: %s", alert->title),
                       *id = mem_printf("alert-%s@tenantry", alert->id);
        auto_free char *text = mem_printf("%s\n\n%s\n\ncause: %s\ntenant: %s\n", alert->title, alert->detail,
                                          alert->cause, alert->tenant ? alert->tenant : "-");
        struct mail mail = { .to = alerter->config->mail, .subject = subject, .text = text, .message_id = id };
        struct mail_on_way *on_way;
        struct err err;

        if (mail_send(alerter->mailer, &mail, alerter_mail_ended, &alert->channels[MAIL], &on_way, &err) < 0)
                alerter_mail_ended(&alert->channels[MAIL], &err);
}

static void alerter_log(struct alert *alert)
{
        log_warn("alert", "cause", alert->cause, "tenant", alert->tenant, "title", alert->title, "detail",
                 alert->detail, NULL);
        alerter_channel_ended(&alert->channels[LOG], NULL);
}

static void alerter_deliver(struct alerter *alerter, const struct pg_rows *rows, int row, int from, int to,
                            size_t *counter)
{
        static void (*const tell[CHANNELS])(struct alert * alert) = {
                [LOG] = alerter_log,
                [WEBHOOK] = alerter_post,
                [MAIL] = alerter_mail,
        };
        struct alert *alert = NEW(struct alert);

        alert->alerter = alerter;
        alert->counter = counter;
        alert->id = mem_copy_text(pg_text(rows, row, "alert_id"));
        alert->cause = mem_copy_text(pg_text(rows, row, "cause"));
        alert->tenant = mem_copy_text(pg_text(rows, row, "tenant_id"));
        alert->title = mem_copy_text(pg_text(rows, row, "title"));
        alert->detail = mem_copy_text(pg_text(rows, row, "detail"));
        for (int i = from; i < to; i++) {
                bool due = strstr(pg_text(rows, row, "channels"), NAMES[i]) != NULL;

                alert->channels[i] = (struct channel){ .alert = alert, .name = NAMES[i], .due = due };
                alert->waiting += due;
        }
        if (alert->waiting == 0) {
                alerter_free_alert(alert);
                return;
        }
        ++*counter;
        alert->waiting++; /* our own share, until all are sent */
        for (int i = from; i < to; i++)
                if (alert->channels[i].due)
                        tell[i](alert);
        if (--alert->waiting == 0)
                alerter_record(alert);
}

static void alerter_pending_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct alerter *alerter = context;

        for (int row = 0; err == NULL && row < pg_rows_count(rows) && !alerter->service->stopping; row++) {
                alerter_deliver(alerter, rows, row, LOG, MAIL, &alerter->under_way);
                alerter_deliver(alerter, rows, row, MAIL, CHANNELS, &alerter->mails);
        }
}

static void alerter_lease_answered(void *context)
{
        struct alerter *alerter = context;
        const struct alert_config *config = alerter->config;
        bool mail = config->mail != NULL && alerter->mails == 0 && clock_boot_ms() >= alerter->mails_from;
        auto_free char *channels = mem_printf("{log%s%s}", config->webhook ? ",webhook" : "", mail ? ",mail" : "");

        if (lease_is_held(alerter->lease) && !alerter->service->stopping)
                periodic_ask(alerter->periodic, SECONDS(5), SQL_PENDING, PARAMS(channels), alerter_pending_arrived);
}

static void alerter_begin_round(void *context)
{
        struct alerter *alerter = context;

        if (alerter->under_way == 0)
                lease_ask(alerter->lease);
}

struct alerter *alerter_new(struct service *service, const struct alert_config *config, struct mailer *mailer)
{
        struct alerter *alerter = NEW(struct alerter);

        alerter->service = service;
        alerter->config = config;
        alerter->mailer = mailer;
        alerter->lease = lease_new(service, "alerter", 3 * INTERVAL, alerter_lease_answered, alerter);
        alerter->periodic = periodic_new(service, SECONDS(1), INTERVAL, alerter_begin_round, alerter);
        return alerter;
}

void alerter_free(struct alerter *alerter)
{
        if (alerter == NULL)
                return;
        periodic_free(alerter->periodic);
        lease_free(alerter->lease);
        free(alerter);
}
