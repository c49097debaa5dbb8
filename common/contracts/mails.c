/* The mails that tenants' people get, in our words: see templates/mail/. */
#include "common/contracts/mails.h"

/* The content of a file of this repository, with a NUL behind it. */
#define EMBED(symbol, path)                                                                                            \
        __asm__(".pushsection .rodata\n" #symbol ":\n.incbin \"" path "\"\n.byte 0\n.popsection\n");                   \
        extern const char symbol[]

EMBED(mails_invitation_text, "templates/mail/invitation.txt");
EMBED(mails_invitation_html, "templates/mail/invitation.html");

static const char *const INVITATION_FIELDS[] = { "name", "company", "link", NULL };

const struct mail_kind MAIL_INVITATION = {
        .name = "invitation", .fields = INVITATION_FIELDS, .text = mails_invitation_text, .html = mails_invitation_html
};
