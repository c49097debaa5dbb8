/* The mail that invites a tenant's first administrator. It carries our own signed link, never a secret of the provider;
 * the link is valid for 7 days or until the next invitation is sent. Nothing waits for it: the tenant is ready before,
 * and stays so whatever happens to the mail. */
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/contracts/mails.h"
#include "common/contracts/signed_link.h"
#include "services/provisioner/activity.h"

#include <string.h>

#define TELL_AFTER     30          /* attempts: about half an hour */
#define PATIENT_DELAY  MINUTES(10) /* between attempts from then on */
#define DOUBTFUL_DELAY MINUTES(20) /* doubles each time: the person may have received all of them */
#define FULL_PAUSE     250         /* at least, while other mails are being sent */
#define FULL_DELAY     SECONDS(60) /* at most */

static const char SQL_ALERT[] = "select catalog.raise_alert($1, $2::uuid, $3, $4)";

static enum step_result invitation_told(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return saga_retry(saga, err ? err : &activity_of(saga)->failed);
}

/* The tenant works without it, so nothing is blocked; but somebody should look at the mail server. */
static enum step_result invitation_tell(struct saga *saga)
{
        auto_free char *cause = mem_printf("invitation:%s", saga_tenant(saga));

        return saga_query(
                saga, SQL_ALERT,
                PARAMS(cause, saga_tenant(saga), "an invitation could not be sent", activity_of(saga)->failed.message),
                invitation_told);
}

static int64_t invitation_times_doubtful(struct saga *saga)
{
        return json_number(saga_data(saga), "doubtful", 0);
}

/* A person who already has the mail should not get it again and again. */
static int64_t invitation_doubtful_delay(struct saga *saga)
{
        int64_t times = invitation_times_doubtful(saga);

        json_object_set_new(saga_data(saga), "doubtful", json_integer((json_int_t)times + 1));
        return DOUBTFUL_DELAY << MIN(times, 6);
}

static enum step_result invitation_mail_sent(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err *failed = &activity->failed;

        if (err == NULL) {
                FAILPOINT(mail_after_send, NULL);
                return activity_learn(saga, json_pack("{s:I}", "invite_sent",
                                                      (json_int_t)activity_number(activity, "invite_wanted")));
        }
        if (err->class == ERR_AUTH)
                return saga_hold(saga, "mail-login", err);
        *failed = *err;
        if (strcmp(failed->code, "mail_doubtful") == 0)
                failed->retry_after = invitation_doubtful_delay(saga);
        else if (saga_attempt(saga) >= TELL_AFTER)
                failed->retry_after = PATIENT_DELAY;
        if (err_is_transient(failed) && (saga_attempt(saga) >= TELL_AFTER || invitation_times_doubtful(saga) > 1))
                return invitation_tell(saga);
        return saga_retry(saga, failed);
}

static void invitation_on_mail_sent(void *context, const struct err *err)
{
        struct saga *saga = context;

        activity_end_work(activity_of(saga));
        saga_resume(saga, err);
}

static void invitation_abandon(void *work)
{
        mail_abandon(work);
}

/* Something more urgent waits for the tenant. */
static void invitation_interrupt(void *work)
{
        mail_cut(work);
}

static void invitation_write(const struct activity *activity, const char *link, struct mail_words *ret)
{
        const struct mail_value values[] = {
                { "name", activity_tenant(activity, "admin_name") },
                { "company", activity_tenant(activity, "company") },
                { "link", link },
                { NULL, NULL },
        };

        mail_template_fill(activity->provisioner->invitation, values, ret);
}

static int invitation_start_mail(struct saga *saga, struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct provisioner *provisioner = activity->provisioner;
        int64_t number = activity_number(activity, "invite_wanted");
        auto_free char *token = signed_link_make(provisioner->app_keys, LINK_INVITATION, saga_tenant(saga), (int)number,
                                                 clock_wall_ms() / 1000 + SIGNED_LINK_WEEK);
        auto_free char *link = mem_printf("%s/invite/%s", provisioner->config->links.public_url, token);
        auto_free char *id = mem_printf("invite-%s-%lld@tenantry", saga_tenant(saga), (long long)number);
        struct mail_words words;
        struct mail_on_way *on_way;
        int rc;

        invitation_write(activity, link, &words);
        rc = mail_send(provisioner->mailer,
                       &(struct mail){ .to = activity_tenant(activity, "email"),
                                       .subject = words.subject,
                                       .text = words.text,
                                       .html = words.html,
                                       .message_id = id },
                       invitation_on_mail_sent, saga, &on_way, err);
        mail_words_release(&words);
        if (rc < 0)
                return rc;
        activity_begin_work(activity, on_way, invitation_abandon);
        activity->interrupt = invitation_interrupt;
        return 0;
}

/* A mail server that hangs may occupy every slot of the mailer: then the saga releases its worker, for work that needs
 * no mail. */
static enum step_result invitation_send(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        int64_t busy;
        struct err err;

        if (FAILPOINT(mail_before_send, &err) < 0)
                return saga_retry(saga, &err);
        if (activity_number(activity, "invite_sent") >= activity_number(activity, "invite_wanted"))
                return STEP_DONE;
        if (mailer_is_full(activity->provisioner->mailer, &busy))
                return saga_wait(saga, MIN(FULL_DELAY, FULL_PAUSE + busy));
        if (invitation_start_mail(saga, &err) < 0)
                return saga_fail(saga, &err);
        return saga_await(saga, invitation_mail_sent);
}

/* When the service stops, a mail that the server may already have accepted is not aborted: it would be sent again. */
static bool invitation_cut_short(void *state)
{
        struct activity *activity = state;

        CHECK_MAGIC(activity, ACTIVITY_MAGIC);
        if (activity->work != NULL && saga_service(activity->saga)->stopping && mail_is_handed_over(activity->work))
                return false;
        return activity_interrupt(activity);
}

static const struct saga_step STEPS[] = {
        { "send", invitation_send, NULL, MINUTES(24 * 60), 10 },
};

const struct saga_kind INVITE = {
        .name = "invite",
        .steps = STEPS,
        .count = ARRAY_SIZE(STEPS),
        .no_return = 1,
        .open = activity_open,
        .close = activity_close,
        .interrupt = invitation_cut_short,
};
