/* The mails that tenants' people get. */
#pragma once

#include "common/net/mail_template.h"

/* name, company, link. */
extern const struct mail_kind MAIL_INVITATION;
