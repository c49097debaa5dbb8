/* One mail: its bytes, and its way to a mail server that takes it, refuses it, or says nothing. */
#include "common/net/mail.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "tests/unit/check.h"
#include "tests/unit/mail_server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define DEADLINE 120 /* seconds, for all tests together */

static const struct mail MAIL = {
        .to = "ada@shop.example", .subject = "Welcome", .text = "Come in.\n", .message_id = "invite-7@tenantry"
};

static const struct mail_settings FROM = { .from = "noreply@tenantry.example" };

/* Between the blank line and the end, decoded. The caller frees. */
static char *body_of(const char *bytes)
{
        const char *body = strstr(bytes, "\r\n\r\n");
        char *text = mem_alloc(strlen(bytes) + 1, 1);
        auto_buf encoded = { 0 };

        assert_non_null(body);
        for (; *body; body++)
                if (*body != '\r' && *body != '\n')
                        buf_add(&encoded, body, 1);
        if (encoded.length > 0)
                assert_true(crypto_base64_decode(encoded.data, (unsigned char *)text) >= 0);
        return text;
}

/* The value of a header with its folds taken out (RFC 5322, 2.2.3). The caller frees. */
static char *header_of(const char *bytes, const char *name)
{
        auto_free char *begin = mem_printf("\r\n%s: ", name);
        const char *at = strstr(bytes, begin);
        auto_buf value = { 0 };

        assert_non_null(at);
        for (at += strlen(begin); *at && (strncmp(at, "\r\n", 2) != 0 || at[2] == ' '); at++)
                if (*at != '\r' && *at != '\n')
                        buf_add(&value, at, 1);
        return buf_take(&value);
}

/* What the encoded words of a subject say together; each must be one by itself (RFC 2047, 5). The caller frees. */
static char *decode_words(const char *value)
{
        auto_buf text = { 0 };

        for (const char *word = value; *word; word += *word == ' ') {
                const char *end = strstr(word, "?=");
                char encoded[76] = "", decoded[76] = "";
                int length;

                assert_memory_equal(word, "=?UTF-8?B?", 10);
                assert_non_null(end);
                assert_in_range(end + 2 - word, 0, 75);
                memcpy(encoded, word + 10, (size_t)(end - word - 10));
                length = crypto_base64_decode(encoded, (unsigned char *)decoded);
                assert_in_range(length, 1, 45);
                assert_true(((unsigned char)decoded[0] & 0xc0) != 0x80); /* no half characters */
                buf_add(&text, decoded, (size_t)length);
                word = end + 2;
        }
        return buf_take(&text);
}

static void test_a_mail_says_from_whom_to_whom_and_which_it_is(void **state)
{
        auto_free char *bytes = mail_format(&FROM, &MAIL), *body = body_of(bytes), *date = header_of(bytes, "Date");
        struct tm sent = { 0 };

        (void)state;
        assert_ptr_equal(
                strstr(bytes, "From: <noreply@tenantry.example>\r\nTo: <ada@shop.example>\r\nSubject: Welcome\r\n"),
                bytes);
        assert_contains(bytes, "\r\nMessage-ID: <invite-7@tenantry>\r\n");
        assert_contains(bytes, "\r\nAuto-Submitted: auto-generated\r\n");
        assert_contains(bytes, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n");
        assert_string_equal(body, MAIL.text);
        assert_non_null(strptime(date, "%a, %d %b %Y %H:%M:%S +0000", &sent));
        assert_in_range(time(NULL) - timegm(&sent), 0, 60);
}

static void test_a_mail_of_two_forms_ends_with_the_better_one(void **state)
{
        struct mail mail = MAIL;
        auto_free char *bytes = NULL, *plain = NULL, *html = NULL;
        char *second;

        (void)state;
        mail.html = "<p>Come in.</p>";
        bytes = mail_format(&FROM, &mail);
        assert_contains(bytes,
                        "\r\nContent-Type: multipart/alternative; boundary=\"--=_tenantry\"\r\n\r\n----=_tenantry\r\n");
        second = strstr(bytes, "\r\n----=_tenantry\r\nContent-Type: text/html");
        assert_non_null(second);
        assert_string_equal(bytes + strlen(bytes) - 20, "\r\n----=_tenantry--\r\n");
        bytes[strlen(bytes) - 20] = '\0';
        html = body_of(second + strlen("\r\n----=_tenantry\r\n"));
        assert_string_equal(html, mail.html);
        *second = '\0';
        plain = body_of(strstr(bytes, "Content-Type: text/plain"));
        assert_string_equal(plain, mail.text);
}

static void test_a_long_text_arrives_as_it_was_in_lines_that_every_server_takes(void **state)
{
        auto_free char *text = mem_alloc(10001, 1), *bytes = NULL, *body = NULL;
        struct mail mail = MAIL;

        (void)state;
        for (size_t i = 0; i < 10000; i++)
                text[i] = (char)(1 + i % 255);
        mail.text = text;
        bytes = mail_format(&FROM, &mail);
        body = body_of(bytes);
        assert_string_equal(body, text);
        for (const char *line = bytes; *line; line = strstr(line, "\r\n") + 2) {
                assert_non_null(strstr(line, "\r\n"));
                assert_in_range(strstr(line, "\r\n") - line, 0, 78);
        }
        mail.text = "";
        free(bytes);
        bytes = mail_format(&FROM, &mail);
        assert_string_equal(bytes + strlen(bytes) - 6, "\r\n\r\n\r\n");
}

static void test_a_subject_of_any_letters_and_length_is_folded_between_characters(void **state)
{
        static const char *const subjects[] = {
                "Zürich",
                "Пожалуйста, подтвердите адрес электронной почты для магазина «Берёзка» в Ростове",
                "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀",
                "aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀aé€😀",
                "This one is plain, and longer than what may stand in a line of a header as it is",
                "=?UTF-8?B?bm90IG91cnM=?=",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(subjects); i++) {
                struct mail mail = MAIL;
                auto_free char *bytes = NULL, *value = NULL, *text = NULL;

                mail.subject = subjects[i];
                bytes = mail_format(&FROM, &mail);
                value = header_of(bytes, "Subject");
                text = decode_words(value);
                assert_string_equal(text, subjects[i]);
                for (const char *line = bytes; *line; line = strstr(line, "\r\n") + 2)
                        assert_in_range(strstr(line, "\r\n") - line, 0, 90);
        }
}

static void test_a_subject_makes_no_header_of_its_own(void **state)
{
        static const char *const subjects[] = { "Hi\r\nBcc: eve@evil.example", "Hi\nBcc: eve@evil.example",
                                                "\r\n\r\nHi", "Hi\x7f" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(subjects); i++) {
                struct mail mail = MAIL;
                auto_free char *bytes = NULL, *value = NULL, *text = NULL, *body = NULL;

                mail.subject = subjects[i];
                bytes = mail_format(&FROM, &mail);
                value = header_of(bytes, "Subject");
                text = decode_words(value);
                body = body_of(bytes);
                assert_string_equal(text, subjects[i]);
                assert_string_equal(body, MAIL.text);
                assert_lacks(bytes, "eve@evil.example");
        }
}

/* The one who sends, and what it heard. */
struct sender {
        uv_loop_t loop;
        struct mailer *mailer;
        struct mail_on_way *on_way[CONNECTIONS];
        int sent, told, doubtful;
        struct err err; /* of the last one; "" where it was taken */
};

static void note_sent(void *context, const struct err *err)
{
        struct sender *sender = context;

        sender->told++;
        sender->err = err ? *err : (struct err){ .code = "" };
        sender->doubtful += strcmp(sender->err.code, "mail_doubtful") == 0;
}

static void open_sender(struct sender *sender, const struct mail_settings *settings, size_t limit)
{
        *sender = (struct sender){ .sent = 0 };
        uv_loop_init(&sender->loop);
        sender->mailer = mailer_new(&sender->loop, settings, limit);
}

static void send_one(struct sender *sender)
{
        assert_int_equal(
                mail_send(sender->mailer, &MAIL, note_sent, sender, &sender->on_way[sender->sent++], &sender->err), 0);
}

static void run_until_over(struct sender *sender)
{
        assert_int_equal(uv_run(&sender->loop, UV_RUN_DEFAULT), 0);
}

static void close_sender(struct sender *sender)
{
        mailer_free(sender->mailer);
        run_until_over(sender);
        assert_int_equal(uv_loop_close(&sender->loop), 0);
}

static void wait_until_handed_over(struct sender *sender, int which)
{
        while (!mail_is_handed_over(sender->on_way[which])) /* until the deadline of all tests */
                uv_run(&sender->loop, UV_RUN_NOWAIT);
}

static void test_a_mail_server_gets_the_mail_as_it_was_made(void **state)
{
        struct mail_settings settings = FROM;
        struct server server;
        struct sender sender;
        auto_free char *body = NULL, *message_id = NULL;

        (void)state;
        open_server(&server);
        settings.smtp_url = server.url;
        open_sender(&sender, &settings, 1);
        send_one(&sender);
        assert_int_equal(sender.told, 0);
        run_until_over(&sender);
        assert_int_equal(sender.told, 1);
        assert_string_equal(sender.err.code, "");
        body = body_of(server.got.data);
        message_id = header_of(server.got.data, "Message-ID");
        assert_string_equal(body, MAIL.text);
        assert_string_equal(message_id, "<invite-7@tenantry>");
        close_sender(&sender);
        close_server(&server);
}

static void test_what_a_mail_server_says_tells_what_to_do_next(void **state)
{
        static const struct {
                const char *to_recipient, *to_login, *to_mail;
                enum err_class class;
                const char *code;
        } answers[] = {
                { "550 5.1.1 nobody of this name", NULL, "250 taken", ERR_PERMANENT, "mail_not_sent" },
                { "451 4.3.0 later", NULL, "250 taken", ERR_BUSY, "mail_not_sent" },
                { "250 known", NULL, "554 5.7.1 spam", ERR_PERMANENT, "mail_not_sent" },
                { "250 known", NULL, "452 4.2.2 no room", ERR_BUSY, "mail_not_sent" },
                { "250 known", NULL, NULL, ERR_BUSY, "mail_doubtful" },
                { "530 5.7.0 log in first", NULL, "250 taken", ERR_AUTH, "mail_login" },
                { "250 known", "no TLS is offered", "250 taken", ERR_AUTH, "mail_login" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                struct mail_settings settings = FROM;
                struct server server;
                struct sender sender;

                open_server(&server);
                settings.smtp_url = server.url;
                if (answers[i].to_login != NULL) {
                        settings.user = "tenantry";
                        settings.password = "not-to-be-told";
                }
                server.to_recipient = answers[i].to_recipient;
                server.to_mail = answers[i].to_mail;
                open_sender(&sender, &settings, 1);
                send_one(&sender);
                run_until_over(&sender);
                assert_int_equal(sender.told, 1);
                assert_string_equal(sender.err.code, answers[i].code);
                assert_int_equal(sender.err.class, answers[i].class);
                assert_lacks(sender.err.message, "not-to-be-told");
                close_sender(&sender);
                close_server(&server);
        }
}

static void test_a_mail_server_that_is_not_there_is_no_reason_to_give_up(void **state)
{
        struct mail_settings settings = FROM;
        struct server server;
        struct sender sender;

        (void)state;
        open_server(&server);
        settings.smtp_url = server.url;
        close_server(&server);
        open_sender(&sender, &settings, 1);
        send_one(&sender);
        run_until_over(&sender);
        assert_int_equal(sender.told, 1);
        assert_int_equal(sender.err.class, ERR_BUSY);
        assert_string_equal(sender.err.code, "mail_not_sent");
        close_sender(&sender);
}

/* A server that says nothing to a mail: the first two are handed over and cut, the third never begins. */
static void test_no_more_mails_than_the_limit_are_on_their_way_and_each_can_be_cut(void **state)
{
        struct mail_settings settings = FROM;
        struct server server;
        struct sender sender;
        int64_t oldest = -1, began = clock_boot_ms();

        (void)state;
        open_server(&server);
        server.to_mail = "";
        settings.smtp_url = server.url;
        open_sender(&sender, &settings, 2);
        send_one(&sender);
        assert_false(mailer_is_full(sender.mailer, &oldest));
        send_one(&sender);
        wait_until_handed_over(&sender, 0);
        wait_until_handed_over(&sender, 1);
        assert_true(mailer_is_full(sender.mailer, &oldest));
        assert_in_range(oldest, 0, clock_boot_ms() - began);
        send_one(&sender);
        assert_false(mail_is_handed_over(sender.on_way[2]));
        assert_int_equal(sender.told, 0);
        for (int i = 2; i >= 0; i--)
                mail_cut(sender.on_way[i]);
        run_until_over(&sender);
        assert_int_equal(sender.told, 3);
        assert_int_equal(sender.doubtful, 2); /* these may arrive all the same */
        assert_int_equal(server.count, 2);
        assert_false(mailer_is_full(sender.mailer, &oldest));
        close_sender(&sender);
        close_server(&server);
}

static void test_who_abandons_a_mail_hears_no_more_of_it_and_who_waits_at_the_end_is_told_once(void **state)
{
        struct mail_settings settings = FROM;
        struct server server;
        struct sender sender;

        (void)state;
        open_server(&server);
        server.to_mail = "";
        settings.smtp_url = server.url;
        open_sender(&sender, &settings, 2);
        send_one(&sender);
        send_one(&sender);
        wait_until_handed_over(&sender, 0);
        mail_abandon(sender.on_way[0]);
        mailer_free(sender.mailer);
        assert_int_equal(sender.told, 1);
        assert_string_equal(sender.err.code, "mail_not_sent");
        run_until_over(&sender);
        assert_int_equal(sender.told, 1);
        assert_int_equal(uv_loop_close(&sender.loop), 0);
        close_server(&server);
        mailer_free(NULL);
}

static void test_without_a_mail_server_the_same_mail_again_is_one_file_for_its_owner_alone(void **state)
{
        const char *scratch = getenv("TMPDIR");
        auto_free char *directory = mem_printf("%s/tenantry-mail-XXXXXX", scratch ? scratch : "/tmp"), *path = NULL;
        struct mail_settings settings = FROM;
        struct sender sender;
        struct stat found;

        (void)state;
        assert_non_null(mkdtemp(directory));
        path = mem_printf("%s/invite-7@tenantry.eml", directory);
        settings.directory = directory;
        open_sender(&sender, &settings, 1);
        for (int i = 0; i < 2; i++) {
                send_one(&sender);
                run_until_over(&sender);
                assert_int_equal(sender.told, i + 1);
                assert_string_equal(sender.err.code, "");
        }
        assert_int_equal(stat(path, &found), 0);
        assert_int_equal(found.st_mode & 0777, 0600);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(directory), 0); /* it was the only one */
        send_one(&sender);
        run_until_over(&sender);
        assert_string_equal(sender.err.code, "mail_not_written");
        assert_int_equal(sender.err.class, ERR_BUSY);
        close_sender(&sender);
}

static void test_an_address_that_would_break_out_of_its_header_is_refused_at_once(void **state)
{
        static const char *const addresses[] = {
                "",
                "ada",
                "ada@shop.example\r\nBcc: eve@evil.example",
                "ada@shop.example>",
                "<ada@shop.example",
                "ada@shop.example,eve@evil.example",
                "ada@shop.example eve@evil.example",
                "\"ada\"@shop.example",
                "ada@shop.example;",
                "ada@shop.example\t",
                "ada@shop.example\n",
        };
        struct mail_settings settings = FROM;
        struct sender sender;

        (void)state;
        settings.directory = "/nonexistent";
        open_sender(&sender, &settings, 1);
        for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
                struct mail mail = MAIL;

                mail.to = addresses[i];
                assert_int_equal(mail_send(sender.mailer, &mail, note_sent, &sender, &sender.on_way[0], &sender.err),
                                 -ERR_INPUT);
                assert_string_equal(sender.err.field, "to");
        }
        run_until_over(&sender);
        assert_int_equal(sender.told, 0);
        close_sender(&sender);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_mail_says_from_whom_to_whom_and_which_it_is),
                SENTENCE(test_a_mail_of_two_forms_ends_with_the_better_one),
                SENTENCE(test_a_long_text_arrives_as_it_was_in_lines_that_every_server_takes),
                SENTENCE(test_a_subject_of_any_letters_and_length_is_folded_between_characters),
                SENTENCE(test_a_subject_makes_no_header_of_its_own),
                SENTENCE(test_a_mail_server_gets_the_mail_as_it_was_made),
                SENTENCE(test_what_a_mail_server_says_tells_what_to_do_next),
                SENTENCE(test_a_mail_server_that_is_not_there_is_no_reason_to_give_up),
                SENTENCE(test_no_more_mails_than_the_limit_are_on_their_way_and_each_can_be_cut),
                SENTENCE(test_who_abandons_a_mail_hears_no_more_of_it_and_who_waits_at_the_end_is_told_once),
                SENTENCE(test_without_a_mail_server_the_same_mail_again_is_one_file_for_its_owner_alone),
                SENTENCE(test_an_address_that_would_break_out_of_its_header_is_refused_at_once),
        };

        alarm(DEADLINE);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
