/* One mail, by SMTP or as a file: see mail.h. */
#include "common/net/mail.h"

#include "common/base/blocking.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define MAIL_TIMEOUT    MINUTES(5) /* a server may inspect a mail for a long time before accepting it */
#define CONNECT_TIMEOUT SECONDS(30)
#define BASE64_LINE     76
#define WORD_BYTES      45 /* UTF-8 bytes in one encoded word: 60 characters of base64 */
#define SUBJECT_PLAIN   60
#define BOUNDARY        "--=_tenantry"

#define MAIL_MAGIC 0x6d61696c

struct mailer {
        uv_loop_t *loop;
        struct mail_settings settings;
        struct blocking *blocking;
        size_t limit, count;
        struct mail_on_way *on_way;
        bool freed;
};

/* Belongs to the loop, except what its worker thread needs: settings, to, message_id, bytes and the outcome. */
struct mail_on_way {
        unsigned magic;
        struct mail_on_way *prev, *next;
        struct mailer *mailer;
        mail_sent_fn sent; /* NULL once abandoned */
        void *context;
        struct mail_settings settings;
        char *to, *message_id, *bytes;
        size_t length, given;
        int64_t began;
        atomic_bool cut, handed_over;
        bool failed;
        struct err err;
};

static void mail_add_base64(struct buf *out, const char *text, size_t bytes, size_t line)
{
        auto_free char *encoded = crypto_base64(text, bytes);

        for (size_t i = 0; encoded[i]; i++) {
                buf_add(out, &encoded[i], 1);
                if (line && (i + 1) % line == 0)
                        buf_add_text(out, "\r\n");
        }
}

static bool mail_is_plain(const char *text)
{
        size_t length = 0;

        for (; text[length] >= 0x20 && text[length] < 0x7f; length++)
                ;
        return length <= SUBJECT_PLAIN && text[length] == '\0' && strstr(text, "=?") == NULL;
}

/* RFC 2047: encoded words of at most 75 characters, split between characters, one per line. */
static void mail_add_subject(struct buf *out, const char *text)
{
        if (mail_is_plain(text)) {
                buf_add_text(out, text);
                return;
        }
        while (*text != '\0') {
                size_t length = MIN(strlen(text), WORD_BYTES);

                while (length > 1 && ((unsigned char)text[length] & 0xc0) == 0x80)
                        length--;
                buf_add_text(out, "=?UTF-8?B?");
                mail_add_base64(out, text, length, 0);
                text += length;
                buf_add_text(out, *text ? "?=\r\n " : "?=");
        }
}

static void mail_add_part(struct buf *out, const char *kind, const char *text)
{
        buf_printf(out, "Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n", kind);
        mail_add_base64(out, text, strlen(text), BASE64_LINE);
        buf_add_text(out, "\r\n");
}

/* RFC 2046, 5.1.4: the last one that the reader can show is the best. No line of base64 is like the boundary. */
static void mail_add_alternatives(struct buf *out, const struct mail *mail)
{
        buf_add_text(out, "Content-Type: multipart/alternative; boundary=\"" BOUNDARY "\"\r\n\r\n--" BOUNDARY "\r\n");
        mail_add_part(out, "plain", mail->text);
        buf_add_text(out, "--" BOUNDARY "\r\n");
        mail_add_part(out, "html", mail->html);
        buf_add_text(out, "--" BOUNDARY "--\r\n");
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
        mail_add_subject(&out, mail->subject);
        buf_printf(&out, "\r\nDate: %s\r\nMessage-ID: <%s>\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\n",
                   date, mail->message_id);
        if (mail->html == NULL)
                mail_add_part(&out, "plain", mail->text);
        else
                mail_add_alternatives(&out, mail);
        return buf_take(&out);
}

static int mail_check_address(const char *field, const char *address, struct err *err)
{
        if (strchr(address, '@') == NULL || strpbrk(address, "<>\r\n\t ,;\"") != NULL)
                return err_field(err, field, "%s is not a plain mail address", field);
        return 0;
}

static size_t mail_give_bytes(char *out, size_t size, size_t count, void *context)
{
        struct mail_on_way *mail = context;
        size_t length = MIN(size * count, mail->length - mail->given);

        atomic_store(&mail->handed_over, true);
        memcpy(out, mail->bytes + mail->given, length);
        mail->given += length;
        return length;
}

/* libcurl calls this about once a second, even while it waits for the server. */
static int mail_is_cut(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        struct mail_on_way *mail = context;

        (void)a;
        (void)b;
        (void)c;
        (void)d;
        return atomic_load(&mail->cut);
}

/* The operator must fix these, and they hold up all mail: a refused login, a bad certificate, missing TLS. */
static bool mail_is_about_us(CURLcode code, long status)
{
        return code == CURLE_LOGIN_DENIED || code == CURLE_USE_SSL_FAILED || code == CURLE_PEER_FAILED_VERIFICATION ||
               code == CURLE_SSL_CACERT_BADFILE || status == 530 || status == 534 || status == 535 || status == 538;
}

/* The last reply tells how far it got: after the go-ahead for the text (354) and before the next reply, nobody knows
 * whether the server accepted it. */
static void mail_judge(struct mail_on_way *mail, CURLcode code, long status, const char *words)
{
        bool handed_over = atomic_load(&mail->handed_over);

        if (code == CURLE_OK || (handed_over && status >= 200 && status < 300))
                return; /* accepted, whatever went wrong afterwards */
        mail->failed = true;
        if (*words == '\0')
                words = curl_easy_strerror(code);
        if (handed_over && status >= 300 && status < 400)
                err_set(&mail->err, ERR_BUSY, "mail_doubtful",
                        "the mail server received the mail but did not acknowledge it: %s", words);
        else if (mail_is_about_us(code, status))
                err_set(&mail->err, ERR_AUTH, "mail_login", "login or TLS at the mail server failed: %s (%ld)", words,
                        status);
        else
                err_set(&mail->err, status >= 550 && status < 560 ? ERR_PERMANENT : ERR_BUSY, "mail_not_sent",
                        "the mail server did not accept the mail: %s (%ld)", words, status);
}

/* QUIT is sent when the handle is cleaned up; a server that does not answer it would hold up a mail it has accepted. */
static void mail_expect_no_goodbye(CURL *easy)
{
        curl_socket_t socket = CURL_SOCKET_BAD;

        if (curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &socket) == CURLE_OK && socket != CURL_SOCKET_BAD)
                shutdown(socket, SHUT_RD);
}

static void mail_set_security(CURL *easy, const struct mail_settings *settings)
{
        bool demanded = settings->user != NULL || settings->ca != NULL;

        curl_easy_setopt(easy, CURLOPT_USE_SSL, (long)(demanded ? CURLUSESSL_ALL : CURLUSESSL_TRY));
        if (settings->ca != NULL)
                curl_easy_setopt(easy, CURLOPT_CAINFO, settings->ca);
        if (settings->user != NULL) {
                curl_easy_setopt(easy, CURLOPT_USERNAME, settings->user);
                curl_easy_setopt(easy, CURLOPT_PASSWORD, settings->password);
        }
}

static void mail_send_by_smtp(struct mail_on_way *mail)
{
        auto_free char *to = mem_printf("<%s>", mail->to), *from = mem_printf("<%s>", mail->settings.from);
        struct curl_slist *recipients = curl_slist_append(NULL, to);
        char words[CURL_ERROR_SIZE] = "";
        CURL *easy = curl_easy_init();
        long status = 0;
        CURLcode code;

        assert(easy != NULL);
        curl_easy_setopt(easy, CURLOPT_URL, mail->settings.smtp_url);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
        mail_set_security(easy, &mail->settings);
        curl_easy_setopt(easy, CURLOPT_MAIL_FROM, from);
        curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, recipients);
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, mail_give_bytes);
        curl_easy_setopt(easy, CURLOPT_READDATA, mail);
        curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, mail_is_cut);
        curl_easy_setopt(easy, CURLOPT_XFERINFODATA, mail);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, words);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT);
        curl_easy_setopt(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, (long)(MAIL_TIMEOUT / 1000));
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)MAIL_TIMEOUT);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        code = curl_easy_perform(easy);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        mail_judge(mail, code, status, words);
        mail_expect_no_goodbye(easy);
        curl_easy_cleanup(easy);
        curl_slist_free_all(recipients);
}

/* The file name is the Message-ID, so the same mail written twice is one file. */
static void mail_write_file(struct mail_on_way *mail)
{
        auto_free char *path = mem_printf("%s/%s.eml", mail->settings.directory, mail->message_id);
        auto_free char *draft = mem_printf("%s.new", path);
        int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        bool written = fd >= 0 && write(fd, mail->bytes, mail->length) == (ssize_t)mail->length && fsync(fd) == 0;

        if (fd >= 0)
                close(fd);
        if (written && rename(draft, path) == 0)
                return;
        mail->failed = true;
        err_set(&mail->err, ERR_BUSY, "mail_not_written", "cannot write the mail into MAIL_DIRECTORY: %s",
                strerror(errno));
}

static void mail_deliver(void *context)
{
        struct mail_on_way *mail = context;

        if (atomic_load(&mail->cut)) {
                mail->failed = true;
                err_set(&mail->err, ERR_BUSY, "mail_not_sent", "it was aborted before it began");
        } else if (mail->settings.smtp_url != NULL) {
                mail_send_by_smtp(mail);
        } else {
                mail_write_file(mail);
        }
}

static void mailer_free_when_done(struct mailer *mailer)
{
        if (!mailer->freed || mailer->count > 0)
                return;
        blocking_free(mailer->blocking);
        free(mailer);
}

static void mail_delivered(void *context)
{
        struct mail_on_way *mail = context;
        struct mailer *mailer = mail->mailer;

        CHECK_MAGIC(mail, MAIL_MAGIC);
        DL_DELETE(mailer->on_way, mail);
        mailer->count--;
        if (mail->sent != NULL)
                mail->sent(mail->context, mail->failed ? &mail->err : NULL);
        free(mail->to);
        free(mail->message_id);
        free(mail->bytes);
        mail->magic = 0;
        free(mail);
        mailer_free_when_done(mailer);
}

struct mailer *mailer_new(uv_loop_t *loop, const struct mail_settings *settings, size_t limit)
{
        struct mailer *mailer = NEW(struct mailer);

        curl_global_init(CURL_GLOBAL_DEFAULT); /* before a thread needs it */
        mailer->loop = loop;
        mailer->settings = *settings;
        mailer->limit = limit;
        mailer->blocking = blocking_new(loop, limit);
        return mailer;
}

bool mailer_is_full(const struct mailer *mailer, int64_t *ret_ms)
{
        if (mailer->count < mailer->limit)
                return false;
        *ret_ms = clock_boot_ms() - mailer->on_way->began;
        return true;
}

void mailer_free(struct mailer *mailer)
{
        struct mail_on_way *mail;
        struct err err;

        if (mailer == NULL)
                return;
        err_set(&err, ERR_BUSY, "mail_not_sent", "the service stopped while it was being sent");
        DL_FOREACH (mailer->on_way, mail) {
                mail_sent_fn sent = mail->sent;

                mail_abandon(mail);
                if (sent != NULL)
                        sent(mail->context, &err);
        }
        mailer->freed = true;
        mailer_free_when_done(mailer);
}

int mail_send(struct mailer *mailer, const struct mail *mail, mail_sent_fn sent, void *context,
              struct mail_on_way **ret, struct err *err)
{
        struct mail_on_way *on_way;
        int rc = mail_check_address("to", mail->to, err);

        if (rc < 0)
                return rc;
        on_way = NEW(struct mail_on_way);
        on_way->magic = MAIL_MAGIC;
        on_way->began = clock_boot_ms();
        on_way->mailer = mailer;
        on_way->sent = sent;
        on_way->context = context;
        on_way->settings = mailer->settings;
        on_way->to = mem_copy_text(mail->to);
        on_way->message_id = mem_copy_text(mail->message_id);
        on_way->bytes = mail_format(&mailer->settings, mail);
        on_way->length = strlen(on_way->bytes);
        DL_APPEND(mailer->on_way, on_way);
        mailer->count++;
        *ret = on_way;
        blocking_call(mailer->blocking, mail_deliver, mail_delivered, on_way);
        return 0;
}

bool mail_is_handed_over(const struct mail_on_way *on_way)
{
        CHECK_MAGIC(on_way, MAIL_MAGIC);
        return atomic_load(&on_way->handed_over);
}

void mail_cut(struct mail_on_way *on_way)
{
        CHECK_MAGIC(on_way, MAIL_MAGIC);
        atomic_store(&on_way->cut, true);
}

void mail_abandon(struct mail_on_way *on_way)
{
        mail_cut(on_way);
        on_way->sent = NULL;
}
