/* One mail: by SMTP, or as an .eml file in a directory when no server is set. */
#pragma once

#include "common/net/transfers.h"

struct mail_settings {
        const char *smtp_url;        /* "smtp://host:587", "smtps://..."; NULL = write files */
        const char *user, *password; /* or NULL */
        const char *directory;       /* for .eml files when smtp_url is NULL */
        const char *from;            /* address */
};

struct mail {
        const char *to, *subject, *text;
        const char *message_id; /* without brackets: the same mail again has the same id */
};

typedef void (*mail_sent_fn)(void *context, const struct err *err);

/* All borrowed during the call. Returns 0 and calls sent once, later (for a file: at once); or -ERR_INPUT at once (an
 * address that would break out of its header). A mail cut in between may arrive twice, with the same Message-ID. */
int mail_send(struct transfers *transfers, const struct mail_settings *settings, const struct mail *mail,
              mail_sent_fn sent, void *context, struct err *err);
/* The bytes that are sent (RFC 5322, text UTF-8 in base64). The caller frees. */
char *mail_format(const struct mail_settings *settings, const struct mail *mail);
