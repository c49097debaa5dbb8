/* Mails on their way: see sender.h. */
#include "services/billing/sender.h"

#include "common/base/backoff.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/contracts/mails.h"
#include "common/contracts/signed_link.h"
#include "common/service/periodic.h"
#include "services/billing/outcome.h"

#include <string.h>
#include <utlist.h>

#define INTERVAL       500 /* ms: also how often leases are renewed, of which the shortest is two seconds */
#define SQL_TIMEOUT    SECONDS(10)
#define CALL_TIMEOUT   SECONDS(20)
#define AT_ONCE        4
#define SERVER_DELAY   MINUTES(1)
#define ADDRESS_DELAY  MINUTES(12 * 60) /* a mail server that refuses an address seldom changes its mind */
#define DOUBTFUL_DELAY MINUTES(20)      /* doubles each time: the person may have received all of them */
#define VALUES_MOST    16

static const char SQL_TAKE[] = "select message_id, kind, attempts, facts "
                               "from take_mails($1::text[], $2::int, $3::bigint, $4::float8, $5::boolean)";
static const char SQL_SENT[] = "select mail_sent($1)";
static const char SQL_FAILED[] = "select mail_failed($1, $2, $3::bigint, $4)";

/* A mail in hand, until the catalog knows what became of it. */
struct letter {
        struct letter *prev, *next;
        struct sender *sender;
        const struct mail_template *template;
        char *message_id;
        int64_t attempts;
        json_t *facts;
        char *link;
        struct stripe_request *request; /* for the invoice's page, or NULL */
        struct mail_on_way *on_way;     /* or NULL */
        bool ended, storing;            /* ended: it was sent, or failed */
        bool failed;
        struct err err;
};

struct sender {
        struct billing *billing;
        struct mailer *mailer;
        struct mail_template **templates; /* as BILLING_MAILS */
        struct periodic *periodic;
        struct letter *letters;
        size_t count;
        bool looked; /* the catalog knows since when this process watches */
        bool stopped;
        struct metric_family *mails;
};

static void sender_drop(struct letter *letter)
{
        DL_DELETE(letter->sender->letters, letter);
        letter->sender->count--;
        stripe_api_cancel(letter->request);
        if (letter->on_way != NULL)
                mail_abandon(letter->on_way);
        json_decref(letter->facts);
        free(letter->message_id);
        free(letter->link);
        free(letter);
}

static void sender_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct letter *letter = context;
        struct sender *sender = letter->sender;

        (void)rows;
        letter->storing = false;
        if (err != NULL)
                log_warn("what became of a mail could not be stored", "mail", letter->message_id, "error", err->message,
                         NULL);
        if (err != NULL && !sender->stopped)
                return; /* it stays in hand, or it would be sent again */
        sender_drop(letter);
        sender_wake(sender);
}

/* How long until it is tried again, and whose fault it is. */
static int64_t sender_delay(const struct letter *letter, const char **ret_whose)
{
        const struct err *err = &letter->err;
        unsigned random;

        crypto_random(&random, sizeof(random));
        if (err->class == ERR_AUTH) {
                *ret_whose = "server";
                return SERVER_DELAY;
        }
        if (err->class == ERR_PERMANENT || err->class == ERR_INPUT || err->class == ERR_GONE) {
                *ret_whose = "address";
                return ADDRESS_DELAY;
        }
        *ret_whose = "moment";
        if (strcmp(err->code, "mail_doubtful") == 0)
                return DOUBTFUL_DELAY << MIN(letter->attempts - 1, 6);
        return err->retry_after ?: backoff_ms((int)letter->attempts - 1, random);
}

static void sender_store(struct letter *letter)
{
        struct pg_pool *catalog = letter->sender->billing->service->catalog;
        auto_free char *delay = NULL;
        const char *whose;

        letter->storing = true;
        if (!letter->failed) {
                pg_pool_exec(catalog, SQL_TIMEOUT, SQL_SENT, PARAMS(letter->message_id), sender_stored, letter);
                return;
        }
        delay = mem_printf("%lld", (long long)sender_delay(letter, &whose));
        pg_pool_exec(catalog, SQL_TIMEOUT, SQL_FAILED, PARAMS(letter->message_id, letter->err.message, delay, whose),
                     sender_stored, letter);
}

static void sender_end(struct letter *letter, const struct err *err)
{
        letter->ended = true;
        letter->failed = err != NULL;
        if (err != NULL) {
                letter->err = *err;
                log_warn("a mail could not be sent; it will be tried again", "mail", letter->message_id, "code",
                         err->code, "error", err->message, NULL);
        }
        metric_add(METRIC_OF(letter->sender->mails, err == NULL ? "sent" : err->code), 1);
        sender_store(letter);
}

static void sender_mail_ended(void *context, const struct err *err)
{
        struct letter *letter = context;

        letter->on_way = NULL; /* it is gone */
        if (err == NULL)
                FAILPOINT(mail_after_send, NULL);
        sender_end(letter, err);
}

static void sender_write(const struct letter *letter, struct mail_words *ret)
{
        struct mail_value values[VALUES_MOST] = { 0 };
        const char *name;
        json_t *value;
        size_t count = 0;

        json_object_foreach (letter->facts, name, value)
                if (json_is_string(value) && count < VALUES_MOST - 2)
                        values[count++] = (struct mail_value){ name, json_string_value(value) };
        values[count] = (struct mail_value){ "link", letter->link };
        mail_template_fill(letter->template, values, ret);
}

static void sender_send(struct letter *letter)
{
        struct mail_words words;
        struct err err;
        int rc;

        if (FAILPOINT(mail_before_send, &err) < 0) {
                sender_end(letter, &err);
                return;
        }
        sender_write(letter, &words);
        rc = mail_send(letter->sender->mailer,
                       &(struct mail){ .to = json_text(letter->facts, "to"),
                                       .subject = words.subject,
                                       .text = words.text,
                                       .html = words.html,
                                       .message_id = letter->message_id },
                       sender_mail_ended, letter, &letter->on_way, &err);
        mail_words_release(&words);
        if (rc < 0)
                sender_end(letter, &err);
}

/* The invoice's page is a link that lets whoever has it act, so it is not kept. */
static void sender_invoice_answered(void *context, const struct stripe_reply *reply, const struct err *err)
{
        struct letter *letter = context;
        const char *page = err == NULL ? json_text(reply->body, "hosted_invoice_url") : NULL;
        struct err trouble;

        letter->request = NULL; /* it is gone */
        outcome_note(letter->sender->billing->service, reply, err);
        if (err != NULL) {
                trouble = *err;
                trouble.class = ERR_BUSY; /* whatever it is: not the address's fault */
                trouble.retry_after = err->class == ERR_BUSY ? err->retry_after : SERVER_DELAY;
                sender_end(letter, &trouble);
                return;
        }
        if (page != NULL) {
                free(letter->link);
                letter->link = mem_copy_text(page);
        }
        sender_send(letter);
}

static void sender_ask_for_invoice(struct letter *letter, const char *invoice)
{
        struct billing *billing = letter->sender->billing;
        auto_free char *path = mem_printf("/v1/invoices/%s", invoice);

        letter->request =
                stripe_api_call(billing->service->transfers, &billing->account,
                                &(struct stripe_call){ .method = "GET", .path = path, .timeout_ms = CALL_TIMEOUT },
                                sender_invoice_answered, letter);
}

/* To the tenant's pages, for a week from now. */
static char *sender_link(const struct billing *billing, const char *tenant_id)
{
        auto_free char *token = signed_link_make(billing->app_keys, LINK_BILLING, tenant_id, 0,
                                                 clock_wall_ms() / 1000 + SIGNED_LINK_WEEK);

        return mem_printf("%s/billing/%s", billing->config->links.public_url, token);
}

static void sender_begin(struct sender *sender, const struct pg_rows *rows, int row)
{
        struct letter *letter = NEW(struct letter);
        const struct mail_kind *kind = mail_kind_find(pg_text(rows, row, "kind"));
        const char *facts = pg_text(rows, row, "facts"), *invoice;
        struct err err;

        letter->sender = sender;
        letter->message_id = mem_copy_text(pg_text(rows, row, "message_id"));
        letter->attempts = pg_int(rows, row, "attempts");
        DL_APPEND(sender->letters, letter);
        sender->count++;
        for (size_t i = 0; BILLING_MAILS[i] != NULL; i++)
                if (BILLING_MAILS[i] == kind)
                        letter->template = sender->templates[i];
        if (letter->template == NULL) {
                err_set(&err, ERR_BUSY, "mail_unknown", "this program has no mail of that kind");
                sender_end(letter, &err);
                return;
        }
        if (json_parse(facts, strlen(facts), &letter->facts, &err) < 0) {
                sender_end(letter, &err);
                return;
        }
        letter->link = sender_link(sender->billing, json_text(letter->facts, "tenant_id"));
        invoice = json_text(letter->facts, "invoice");
        if (invoice != NULL && sender->billing->account.secret_key != NULL)
                sender_ask_for_invoice(letter, invoice);
        else
                sender_send(letter);
}

static void sender_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct sender *sender = context;

        if (err != NULL) {
                log_warn("which mails are due could not be read", "error", err->message, NULL);
                return;
        }
        sender->looked = true;
        for (int row = 0; row < pg_rows_count(rows) && !sender->stopped; row++)
                sender_begin(sender, rows, row);
}

/* Message-IDs have no characters that mean something in an array. */
static char *sender_in_hand(const struct sender *sender)
{
        auto_buf list = { 0 };
        const struct letter *letter;

        buf_add_text(&list, "{");
        DL_FOREACH (sender->letters, letter)
                buf_printf(&list, "%s%s", list.length > 1 ? "," : "", letter->message_id);
        buf_add_text(&list, "}");
        return buf_take(&list);
}

static void sender_act(void *context)
{
        struct sender *sender = context;
        const struct service_config *service = sender->billing->service->config;
        auto_free char *mine = sender_in_hand(sender);
        auto_free char *limit = mem_printf("%zu", sender->stopped ? 0 : AT_ONCE - sender->count);
        auto_free char *lease = mem_printf("%lld", (long long)service->lease_ms);
        auto_free char *rate = mem_printf("%lld", (long long)sender->billing->config->calls_per_second);
        struct letter *letter, *next;

        DL_FOREACH_SAFE (sender->letters, letter, next)
                if (letter->ended && !letter->storing)
                        sender_store(letter);
        periodic_ask(sender->periodic, SQL_TIMEOUT, SQL_TAKE,
                     PARAMS(mine, limit, lease, rate, sender->looked ? "false" : "true"), sender_taken);
}

int sender_new(struct billing *billing, struct sender **ret, struct err *err)
{
        struct sender *sender = *ret = NEW(struct sender);
        size_t count = 0;

        while (BILLING_MAILS[count] != NULL)
                count++;
        sender->billing = billing;
        sender->templates = mem_alloc(count, sizeof(*sender->templates));
        for (size_t i = 0; i < count; i++)
                if (mail_template_load(BILLING_MAILS[i], billing->config->mail.templates, &sender->templates[i], err) <
                    0)
                        return -ERR_INPUT;
        sender->mailer = mail_config_mailer(&billing->config->mail, &billing->service->loop, AT_ONCE);
        sender->mails = metric_counter_family("tenantry_billing_mails_total", "outcome",
                                              "Attempts to send mails about billing, by outcome.");
        metric_add(METRIC_OF(sender->mails, "sent"), 0);
        sender->periodic = periodic_new(billing->service, INTERVAL, INTERVAL, sender_act, sender);
        return 0;
}

void sender_wake(struct sender *sender)
{
        periodic_act(sender->periodic);
}

void sender_stop(struct sender *sender)
{
        struct letter *letter, *next;

        sender->stopped = true;
        DL_FOREACH_SAFE (sender->letters, letter, next) {
                if (letter->request != NULL)
                        sender_drop(letter);
                else if (letter->on_way != NULL && !mail_is_handed_over(letter->on_way))
                        mail_cut(letter->on_way);
        }
}

bool sender_is_idle(const struct sender *sender)
{
        return sender->count == 0;
}

void sender_free(struct sender *sender)
{
        if (sender == NULL)
                return;
        periodic_free(sender->periodic);
        while (sender->letters != NULL)
                sender_drop(sender->letters);
        mailer_free(sender->mailer);
        for (size_t i = 0; sender->templates != NULL && BILLING_MAILS[i] != NULL; i++)
                mail_template_free(sender->templates[i]);
        free(sender->templates);
        free(sender);
}
