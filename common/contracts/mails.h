/* The mails that tenants' people get. */
#pragma once

#include "common/net/mail_template.h"

/* name, company, link. */
extern const struct mail_kind MAIL_INVITATION;

/* About billing. All of them: name, company, link, plan; date and left ("2 days"): until what the mail is about. */
extern const struct mail_kind MAIL_TRIAL_ENDING;
/* amount. */
extern const struct mail_kind MAIL_PAYMENT_FAILED;
/* amount; the link is that of the invoice's page. */
extern const struct mail_kind MAIL_PAYMENT_ACTION_REQUIRED;
/* trial_ended, not_paid or cancelled: one of them, which is then not empty. */
extern const struct mail_kind MAIL_SUSPENDED, MAIL_ARCHIVE_NOTICE;

/* Whoever has an old link has asked for a new one. */
extern const struct mail_kind MAIL_BILLING_LINK;

/* All of the above; those about billing alone. Both end with NULL. */
extern const struct mail_kind *const MAILS[], *const BILLING_MAILS[];

/* The kind of that name, or NULL. */
const struct mail_kind *mail_kind_find(const char *name);
/* Values of all fields, to look at: nobody's. */
extern const struct mail_value MAIL_EXAMPLE[];

/* Whether the kinds' files in directory (MAIL_TEMPLATES, or NULL) are right. Returns 0, or -ERR_INPUT with the mistake
 * and the option as its field. */
int mails_check_templates(const struct mail_kind *const *kinds, const char *directory, struct err *err);
