/* One mail, by SMTP or as a file: see mail.h. */
#include "common/net/mail.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAIL_TIMEOUT_MS 20000L
#define BASE64_LINE     76
#define WORD_BYTES      45 /* of UTF-8 in one encoded word: 60 characters of base64 */
#define SUBJECT_PLAIN   60

struct sending {
        CURL *easy;
        struct curl_slist *to;
        char *bytes;
        size_t length, sent;
        mail_sent_fn done;
        void *context;
};

static void add_base64(struct buf *out, const char *text, size_t bytes, size_t line)
{
        auto_free char *encoded = crypto_base64url(text, bytes);
        size_t length = strlen(encoded), padded = (length + 3) / 4 * 4;

        for (size_t i = 0; i < padded; i++) {
                char c = i < length ? encoded[i] : '=';

                c = c == '-' ? '+' : c == '_' ? '/' : c; /* mail knows only the older alphabet */
                buf_add(out, &c, 1);
                if (line && (i + 1) % line == 0)
                        buf_add_text(out, "\r\n");
        }
}

static bool is_plain(const char *text)
{
        size_t length = 0;

        for (; text[length] >= 0x20 && text[length] < 0x7f; length++)
                ;
        return length <= SUBJECT_PLAIN && text[length] == '\0' && strstr(text, "=?") == NULL;
}

/* RFC 2047: encoded words of 75 characters at most, cut between characters, a line each. */
static void add_subject(struct buf *out, const char *text)
{
        if (is_plain(text)) {
                buf_add_text(out, text);
                return;
        }
        while (*text != '\0') {
                size_t length = MIN(strlen(text), WORD_BYTES);

                while (length > 1 && ((unsigned char)text[length] & 0xc0) == 0x80)
                        length--;
                buf_add_text(out, "=?UTF-8?B?");
                add_base64(out, text, length, 0);
                text += length;
                buf_add_text(out, *text ? "?=\r\n " : "?=");
        }
}

char *mail_format(const struct mail_settings *settings, const struct mail *mail)
{
        auto_buf out = { 0 };
        char date[64];
        time_t now = time(NULL);
        struct tm utc;

        gmtime_r(&now, &utc);
        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &utc);
        buf_printf(&out, "From: <%s>\r\nTo: <%s>\r\nSubject: ", settings->from, mail->to);
        add_subject(&out, mail->subject);
        buf_printf(&out,
                   "\r\nDate: %s\r\nMessage-ID: <%s>\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\n"
                   "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
                   date, mail->message_id);
        add_base64(&out, mail->text, strlen(mail->text), BASE64_LINE);
        buf_add_text(&out, "\r\n");
        return buf_take(&out);
}

static int check_address(const char *field, const char *address, struct err *err)
{
        if (strchr(address, '@') == NULL || strpbrk(address, "<>\r\n\t ,;\"") != NULL)
                return err_field(err, field, "%s is not a plain mail address", field);
        return 0;
}

static void free_sending(struct sending *sending)
{
        curl_easy_cleanup(sending->easy);
        curl_slist_free_all(sending->to);
        free(sending->bytes);
        free(sending);
}

static size_t give_bytes(char *out, size_t size, size_t count, void *context)
{
        struct sending *sending = context;
        size_t length = MIN(size * count, sending->length - sending->sent);

        memcpy(out, sending->bytes + sending->sent, length);
        sending->sent += length;
        return length;
}

static void mail_ended(void *context, CURLcode code)
{
        struct sending *sending = context;
        long status = 0;
        struct err err;

        curl_easy_getinfo(sending->easy, CURLINFO_RESPONSE_CODE, &status);
        if (code == CURLE_OK)
                sending->done(sending->context, NULL);
        else {
                err_set(&err, status >= 550 && status < 560 ? ERR_PERMANENT : ERR_BUSY, "mail_not_sent",
                        "the mail server did not take the mail: %s (%ld)", curl_easy_strerror(code), status);
                sending->done(sending->context, &err);
        }
        free_sending(sending);
}

static void start_smtp(struct transfers *transfers, const struct mail_settings *settings, const struct mail *mail,
                       struct sending *sending)
{
        auto_free char *to = mem_printf("<%s>", mail->to), *from = mem_printf("<%s>", settings->from);
        CURL *easy = sending->easy = curl_easy_init();

        assert(easy != NULL);
        sending->to = curl_slist_append(NULL, to);
        curl_easy_setopt(easy, CURLOPT_URL, settings->smtp_url);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
        curl_easy_setopt(easy, CURLOPT_USE_SSL, (long)CURLUSESSL_TRY);
        if (settings->user != NULL) {
                curl_easy_setopt(easy, CURLOPT_USERNAME, settings->user);
                curl_easy_setopt(easy, CURLOPT_PASSWORD, settings->password);
                curl_easy_setopt(easy, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL);
        }
        curl_easy_setopt(easy, CURLOPT_MAIL_FROM, from);
        curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, sending->to);
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_bytes);
        curl_easy_setopt(easy, CURLOPT_READDATA, sending);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, MAIL_TIMEOUT_MS);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        transfers_add(transfers, easy, mail_ended, sending);
}

/* The name is the Message-ID, so the same mail written twice is one file. */
static int write_file(const struct mail_settings *settings, const struct mail *mail, const char *bytes, struct err *err)
{
        auto_free char *path = mem_printf("%s/%s.eml", settings->directory, mail->message_id);
        auto_free char *draft = mem_printf("%s.new", path);
        int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        size_t length = strlen(bytes);
        bool written = fd >= 0 && write(fd, bytes, length) == (ssize_t)length && fsync(fd) == 0;

        if (fd >= 0)
                close(fd);
        if (written && rename(draft, path) == 0)
                return 0;
        return err_set(err, ERR_BUSY, "mail_not_written", "cannot write the mail into MAIL_DIRECTORY: %s",
                       strerror(errno));
}

int mail_send(struct transfers *transfers, const struct mail_settings *settings, const struct mail *mail,
              mail_sent_fn sent, void *context, struct err *err)
{
        struct sending *sending;
        struct err failed;
        int rc = check_address("to", mail->to, err);

        if (rc < 0)
                return rc;
        sending = NEW(struct sending);
        sending->bytes = mail_format(settings, mail);
        sending->length = strlen(sending->bytes);
        sending->done = sent;
        sending->context = context;
        if (settings->smtp_url != NULL) {
                start_smtp(transfers, settings, mail, sending);
                return 0;
        }
        rc = write_file(settings, mail, sending->bytes, &failed);
        sent(context, rc < 0 ? &failed : NULL);
        free_sending(sending);
        return 0;
}
