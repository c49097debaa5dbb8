/* The mails that tenants' people get, in our words: see templates/mail/. */
#include "common/contracts/mails.h"

#include "common/base/embed.h"

EMBED(mails_invitation_text, "templates/mail/invitation.txt");
EMBED(mails_invitation_html, "templates/mail/invitation.html");

static const char *const INVITATION_FIELDS[] = { "name", "company", "link", NULL };

const struct mail_kind MAIL_INVITATION = {
        .name = "invitation", .fields = INVITATION_FIELDS, .text = mails_invitation_text, .html = mails_invitation_html
};
