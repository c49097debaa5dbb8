/* One mail: by SMTP, or as an .eml file in a directory when no server is set. Mails travel on worker threads: libcurl
 * waits for a mail server's last word without giving its thread back, and that may take minutes. */
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
        const char *message_id; /* without brackets: the same mail again has the same id */
};

struct mailer;
struct mail_on_way;

/* err is NULL where the server took it. ERR_PERMANENT: it never will. ERR_AUTH: it takes none of ours, for our login or
 * for TLS. ERR_BUSY: not now; with the code mail_doubtful it had the mail and did not say what became of it: that may
 * have arrived, and should be repeated rarely. */
typedef void (*mail_sent_fn)(void *context, const struct err *err);

/* settings are copied, their texts borrowed for the life of the process. limit: mails on their way at once. */
struct mailer *mailer_new(uv_loop_t *loop, const struct mail_settings *settings, size_t limit);
/* While one more mail would have to wait for others: true, and the milliseconds that the oldest of them has been on its
 * way, which says how patient to be. */
bool mailer_is_full(const struct mailer *mailer, int64_t *ret_ms);
/* Cuts what is on its way, and tells whoever waits. NULL is fine. */
void mailer_free(struct mailer *mailer);

/* mail is borrowed during the call. Returns 0 and *ret, and calls sent once, later; or -ERR_INPUT at once (an address
 * that would break out of its header). *ret is good until sent is called. */
int mail_send(struct mailer *mailer, const struct mail *mail, mail_sent_fn sent, void *context,
              struct mail_on_way **ret, struct err *err);
/* True from the moment at which the server may have taken it, though it has not said so. */
bool mail_is_handed_over(const struct mail_on_way *on_way);
/* It ends within a second or two, as a failure; handed over, it may arrive all the same. */
void mail_cut(struct mail_on_way *on_way);
/* The same, and sent is not called any more. */
void mail_abandon(struct mail_on_way *on_way);
/* The bytes that are sent (RFC 5322, text UTF-8 in base64). The caller frees. */
char *mail_format(const struct mail_settings *settings, const struct mail *mail);
