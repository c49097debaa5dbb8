/* The mails that tenants' people get, in our words: see templates/mail/. */
#include "common/contracts/mails.h"

#include "common/base/embed.h"
#include "common/base/macros.h"

#include <string.h>

#define EMBED_MAIL(name)                                                                                               \
        EMBED(mails_##name##_text, "templates/mail/" #name ".txt");                                                    \
        EMBED(mails_##name##_html, "templates/mail/" #name ".html")

#define MAIL_KIND(its_name, its_fields)                                                                                \
        {                                                                                                              \
                .name = #its_name, .fields = (its_fields), .text = mails_##its_name##_text,                            \
                .html = mails_##its_name##_html                                                                        \
        }

EMBED_MAIL(invitation);
EMBED_MAIL(trial_ending);
EMBED_MAIL(payment_failed);
EMBED_MAIL(payment_action_required);
EMBED_MAIL(suspended);
EMBED_MAIL(archive_notice);
EMBED_MAIL(billing_link);

#define OF_BILLING "name", "company", "link", "plan", "date", "left"

static const char *const INVITATION_FIELDS[] = { "name", "company", "link", NULL };
static const char *const TRIAL_FIELDS[] = { OF_BILLING, NULL };
static const char *const PAYMENT_FIELDS[] = { OF_BILLING, "amount", NULL };
static const char *const END_FIELDS[] = { OF_BILLING, "trial_ended", "not_paid", "cancelled", NULL };

const struct mail_kind MAIL_INVITATION = MAIL_KIND(invitation, INVITATION_FIELDS);
const struct mail_kind MAIL_TRIAL_ENDING = MAIL_KIND(trial_ending, TRIAL_FIELDS);
const struct mail_kind MAIL_PAYMENT_FAILED = MAIL_KIND(payment_failed, PAYMENT_FIELDS);
const struct mail_kind MAIL_PAYMENT_ACTION_REQUIRED = MAIL_KIND(payment_action_required, PAYMENT_FIELDS);
const struct mail_kind MAIL_SUSPENDED = MAIL_KIND(suspended, END_FIELDS);
const struct mail_kind MAIL_ARCHIVE_NOTICE = MAIL_KIND(archive_notice, END_FIELDS);
const struct mail_kind MAIL_BILLING_LINK = MAIL_KIND(billing_link, TRIAL_FIELDS);

const struct mail_kind *const MAILS[] = {
        &MAIL_INVITATION, &MAIL_TRIAL_ENDING,   &MAIL_PAYMENT_FAILED, &MAIL_PAYMENT_ACTION_REQUIRED,
        &MAIL_SUSPENDED,  &MAIL_ARCHIVE_NOTICE, &MAIL_BILLING_LINK,   NULL,
};

const struct mail_kind *const BILLING_MAILS[] = {
        &MAIL_TRIAL_ENDING,
        &MAIL_PAYMENT_FAILED,
        &MAIL_PAYMENT_ACTION_REQUIRED,
        &MAIL_SUSPENDED,
        &MAIL_ARCHIVE_NOTICE,
        &MAIL_BILLING_LINK,
        NULL,
};

const struct mail_value MAIL_EXAMPLE[] = {
        { "name", "Ada Example" },
        { "company", "Example & Daughters" },
        { "link", "https://example.com/follow-this" },
        { "plan", "Starter" },
        { "date", "24 December 2026" },
        { "left", "2 days" },
        { "amount", "99.00 USD" },
        { "trial_ended", "" },
        { "not_paid", "yes" },
        { "cancelled", "" },
        { NULL, NULL },
};

const struct mail_kind *mail_kind_find(const char *name)
{
        for (const struct mail_kind *const *kind = MAILS; *kind != NULL; kind++)
                if (strcmp((*kind)->name, name) == 0)
                        return *kind;
        return NULL;
}

int mails_check_templates(const struct mail_kind *const *kinds, const char *directory, struct err *err)
{
        for (; *kinds != NULL; kinds++) {
                struct mail_template *template = NULL;
                struct err bad;

                if (mail_template_load(*kinds, directory, &template, &bad) < 0)
                        return err_field(err, "MAIL_TEMPLATES", "MAIL_TEMPLATES: %s", bad.message);
                mail_template_free(template);
        }
        return 0;
}
