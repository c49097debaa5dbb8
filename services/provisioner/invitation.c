/* The mail that brings a tenant's first administrator in: see invitation.h. */
#include "services/provisioner/invitation.h"

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/contracts/invite_link.h"
#include "services/provisioner/activity.h"

#include <string.h>

#define GIVE_UP_AFTER 30 /* attempts: about half an hour */

static const char SQL_ALERT[] = "select catalog.raise_alert($1, $2::uuid, $3, $4)";

static enum step_result alerted(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        return activity_learn(
                saga, json_pack("{s:I}", "invite_sent", (json_int_t)activity_number(activity, "invite_wanted")));
}

static enum step_result mail_sent(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *cause = mem_printf("invitation:%s", saga_tenant(saga));

        if (err != NULL && err_is_transient(err) && saga_attempt(saga) < GIVE_UP_AFTER)
                return saga_retry(saga, err);
        if (err != NULL)
                return saga_query(saga, SQL_ALERT,
                                  PARAMS(cause, saga_tenant(saga), "an invitation could not be sent", err->message),
                                  alerted);
        FAILPOINT(mail_after_send, NULL);
        return activity_learn(
                saga, json_pack("{s:I}", "invite_sent", (json_int_t)activity_number(activity, "invite_wanted")));
}

static void on_mail_sent(void *context, const struct err *err)
{
        saga_resume(context, err);
}

static char *mail_text(const struct activity *activity, const char *link)
{
        const char *name = activity_tenant(activity, "admin_name");

        return mem_printf("Hello%s%s,\n\n%s is ready for you. Open this link to choose how you sign in:\n\n  %s\n\n"
                          "The link is yours alone and good for 7 days. If it has run out, ask for a new one.\n",
                          name ? " " : "", name ? name : "", activity_tenant(activity, "company"), link);
}

enum step_result invitation_send(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct provisioner *provisioner = activity->provisioner;
        int64_t number = activity_number(activity, "invite_wanted");
        auto_free char *token = NULL, *link = NULL, *text = NULL, *subject = NULL, *id = NULL;
        struct mail mail;
        struct err err;

        if (FAILPOINT(mail_before_send, &err) < 0)
                return saga_retry(saga, &err);
        if (activity_number(activity, "invite_sent") >= number)
                return STEP_DONE;
        token = invite_link_make(provisioner->app_keys, saga_tenant(saga), (int)number, clock_wall_ms());
        link = mem_printf("%s/invite/%s", provisioner->config->public_url, token);
        text = mail_text(activity, link);
        subject = mem_printf("%s is ready", activity_tenant(activity, "company"));
        id = mem_printf("invite-%s-%lld@tenantry", saga_tenant(saga), (long long)number);
        mail = (struct mail){
                .to = activity_tenant(activity, "email"), .subject = subject, .text = text, .message_id = id
        };
        saga_await(saga, mail_sent);
        if (mail_send(provisioner->service->transfers, &provisioner->mail, &mail, on_mail_sent, saga, &err) < 0)
                saga_resume(saga, &err);
        return STEP_PENDING;
}

static const struct saga_step STEPS[] = {
        { "send", invitation_send, NULL, MINUTES(24 * 60), 10 },
};

const struct saga_kind INVITE = { "invite",      STEPS,          ARRAY_SIZE(STEPS),  1,
                                  activity_open, activity_close, activity_interrupt, NULL };
