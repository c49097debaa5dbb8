/* One mail: by SMTP, or as an .eml file in a directory when no server is set. Mails are sent on worker threads: libcurl
 * blocks its thread while it waits for a mail server's final reply, which may take minutes. */
#pragma once

#include "common/base/err.h"

#include <uv.h>

struct mail_settings {
        const char *smtp_url;        /* "smtp://host:587", "smtps://..."; NULL = write files */
        const char *user, *password; /* or NULL */
        const char *ca;              /* file with the CA of the mail server, or NULL for the system's */
        const char *directory;       /* for .eml files when smtp_url is NULL */
        const char *from;            /* address */
};

struct mail {
        const char *to, *subject, *text;
        const char *html;       /* the same for who prefers that; or NULL */
        const char *message_id; /* without brackets: the same mail again has the same id */
};

struct mailer;
struct mail_on_way;

/* err is NULL if the server accepted the mail. ERR_PERMANENT: it never will. ERR_AUTH: it accepts none of ours, because
 * of our login or TLS. ERR_BUSY: not now; with the code mail_doubtful it received the mail but did not acknowledge it:
 * it may have arrived, and should be repeated rarely. */
typedef void (*mail_sent_fn)(void *context, const struct err *err);

/* settings are copied, their texts borrowed for the life of the process. limit: mails being sent at once. */
struct mailer *mailer_new(uv_loop_t *loop, const struct mail_settings *settings, size_t limit);
/* True while another mail would have to wait; then also how long, in milliseconds, the oldest one has been under way,
 * as a hint how long to wait. */
bool mailer_is_full(const struct mailer *mailer, int64_t *ret_ms);
/* Aborts the mails being sent, and notifies their callers. NULL is fine. */
void mailer_free(struct mailer *mailer);

/* mail is borrowed during the call. Returns 0 and *ret, and calls sent once, later; or -ERR_INPUT at once (an address
 * that would break out of its header). *ret is valid until sent is called. */
int mail_send(struct mailer *mailer, const struct mail *mail, mail_sent_fn sent, void *context,
              struct mail_on_way **ret, struct err *err);
/* True from the moment at which the server may have accepted it, though it has not said so. */
bool mail_is_handed_over(const struct mail_on_way *on_way);
/* Makes it fail within a second or two; if already handed over, it may arrive all the same. */
void mail_cut(struct mail_on_way *on_way);
/* The same, but sent is no longer called. */
void mail_abandon(struct mail_on_way *on_way);
/* The bytes that are sent (RFC 5322, text UTF-8 in base64). The caller frees. */
char *mail_format(const struct mail_settings *settings, const struct mail *mail);
