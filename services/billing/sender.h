/* Sends the mails that the catalog says are due (billing.mail), each once; after a crash perhaps again, under the same
 * Message-ID. What it says is asked for just before it goes, and whether it is still true. A mail server that hangs or
 * refuses holds up mails only. */
#pragma once

#include "services/billing/billing.h"

/* -ERR_INPUT: a file in MAIL_TEMPLATES is wrong. */
int sender_new(struct billing *billing, struct sender **ret, struct err *err);
/* There may be something to send. */
void sender_wake(struct sender *sender);
/* Begins no more; what the mail server may have already is let go to its end. */
void sender_stop(struct sender *sender);
bool sender_is_idle(const struct sender *sender);
/* NULL is fine. */
void sender_free(struct sender *sender);
