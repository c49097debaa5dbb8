/* The words of mails: what a template may have, and what becomes of it. */
#include "check.h"

#include "common/base/macros.h"
#include "common/contracts/mails.h"

#include <sys/stat.h>

static const char *const FIELDS[] = { "name", "company", "link", NULL };

static struct mail_template *loaded(const char *text, const char *html)
{
        struct mail_kind kind = { .name = "test", .fields = FIELDS, .text = text, .html = html };
        struct mail_template *template = NULL;
        struct err err = { 0 };

        if (mail_template_load(&kind, NULL, &template, &err) < 0)
                fail_msg("%s", err.message);
        return template;
}

static struct mail_words filled(const char *text, const char *html, const char *name, const char *company)
{
        const struct mail_value values[] = { { "company", company }, { "name", name }, { NULL, NULL } };
        struct mail_template *template = loaded(text, html);
        struct mail_words words;

        mail_template_fill(template, values, &words);
        mail_template_free(template);
        return words;
}

static void test_values_stand_where_their_fields_are(void **state)
{
        struct mail_words words = filled("Subject: {{company}}!\n\nDear {{name}}{{name}}, {{link}}.\n",
                                         "<p>{{company}} {{name}}</p>", "Ada", "Acme");

        (void)state;
        assert_string_equal(words.subject, "Acme!");
        assert_string_equal(words.text, "Dear AdaAda, .\n");
        assert_string_equal(words.html, "<p>Acme Ada</p>");
        mail_words_release(&words);
}

static void test_a_section_is_there_only_if_its_field_is(void **state)
{
        static const struct {
                const char *text, *name, *company, *right;
        } cases[] = {
                { "Hello{{#name}} {{name}}{{/name}}!", "Ada", "", "Hello Ada!" },
                { "Hello{{#name}} {{name}}{{/name}}!", NULL, "", "Hello!" },
                { "{{#name}}a{{#company}}b{{/company}}c{{/name}}d", "x", "y", "abcd" },
                { "{{#name}}a{{#company}}b{{/company}}c{{/name}}d", "x", NULL, "acd" },
                { "{{#name}}a{{#company}}b{{/company}}c{{/name}}d", NULL, "y", "d" },
                { "{{#name}}{{#name}}a{{/name}}{{/name}}", "x", NULL, "a" },
                { "{{#name}}{{#name}}a{{/name}}b{{/name}}c", NULL, NULL, "c" },
                { "}} { {", NULL, NULL, "}} { {" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *text = mem_printf("Subject: x\n\n%s", cases[i].text);
                struct mail_words words = filled(text, "", cases[i].name, cases[i].company);

                assert_string_equal(words.text, cases[i].right);
                mail_words_release(&words);
        }
}

static void test_no_value_becomes_html_or_another_header_or_a_field(void **state)
{
        static const char bad[] = "<b>\"O'Neil\" & {{link}}\r\nBcc: eve@example.com";
        struct mail_words words = filled("Subject: {{company}}\n\n{{company}}", "{{company}}", NULL, bad);

        (void)state;
        assert_string_equal(words.subject, "<b>\"O'Neil\" & {{link}}  Bcc: eve@example.com");
        assert_string_equal(words.text, bad);
        assert_string_equal(words.html, "&lt;b&gt;&quot;O&#39;Neil&quot; &amp; {{link}}\r\nBcc: eve@example.com");
        mail_words_release(&words);
}

static void test_what_is_wrong_is_told_with_its_line(void **state)
{
        static const struct {
                const char *text, *html, *told;
        } cases[] = {
                { "Hello\n\n", "", "built-in/test.txt does not begin with \"Subject: ...\"" },
                { "Subject: x\nHello\n", "", "built-in/test.txt does not begin with \"Subject: ...\"" },
                { "Subject: x", "", "built-in/test.txt does not begin with \"Subject: ...\"" },
                { "Subject: x\n\n{{nam}}", "",
                  "test.txt line 3: there is no nam in this mail; there are name, company, link" },
                { "Subject: x\n\n", "\n{{Name}}", "test.html line 2: this is not {{field}}" },
                { "Subject: x\n\n", "{{name}", "test.html line 1: this is not {{field}}" },
                { "Subject: x\n\n", "{{", "test.html line 1: this is not {{field}}" },
                { "Subject: x\n\n", "{{#}}", "test.html line 1: this is not {{field}}" },
                { "Subject: x\n\n", "{{#name}}", "test.html line 1: this section never ends" },
                { "Subject: x\n\n", "{{/name}}", "test.html line 1: this ends a section" },
                { "Subject: x\n\n", "{{#name}}{{#link}}{{/name}}{{/link}}", "test.html line 1: this ends a section" },
                { "Subject: x\rBcc: eve@example.com\n\n", "", "test.txt line 1: a subject has no control characters" },
                { "Subject: {{#name}}x\n\n{{/name}}", "", "test.txt line 1: this section never ends" },
                { "Subject: x\n\n", "{{#name}}{{#name}}{{#name}}{{#name}}{{#name}}{{#name}}{{#name}}{{#name}}{{#name}}",
                  "test.html line 1: too many sections" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct mail_kind kind = {
                        .name = "test", .fields = FIELDS, .text = cases[i].text, .html = cases[i].html
                };
                struct mail_template *template = NULL;
                struct err err;

                assert_int_equal(mail_template_load(&kind, NULL, &template, &err), -ERR_INPUT);
                assert_contains(err.message, cases[i].told);
        }
}

static void put(const char *directory, const char *name, const char *text)
{
        auto_free char *path = mem_printf("%s/%s", directory, name);
        FILE *out = fopen(path, "w");

        assert_non_null(out);
        fputs(text, out);
        fclose(out);
}

static void test_the_operators_own_words_come_first_both_or_none(void **state)
{
        char directory[] = "/tmp/tenantry-mail-XXXXXX";
        auto_free char *text = NULL, *html = NULL;
        struct mail_template *template = NULL;
        struct mail_words words;
        struct err err;

        (void)state;
        assert_non_null(mkdtemp(directory));
        text = mem_printf("%s/invitation.txt", directory);
        html = mem_printf("%s/invitation.html", directory);
        assert_int_equal(mail_template_load(&MAIL_INVITATION, directory, &template, &err), 0);
        mail_template_free(template);
        put(directory, "invitation.txt", "Subject: Hi\r\n\r\nCome in: {{link}}\r\n");
        assert_int_equal(mail_template_load(&MAIL_INVITATION, directory, &template, &err), -ERR_INPUT);
        assert_contains(err.message, html);
        assert_int_equal(mkfifo(html, 0600), 0); /* is not waited for */
        assert_int_equal(mail_template_load(&MAIL_INVITATION, directory, &template, &err), -ERR_INPUT);
        assert_contains(err.message, "it is not a regular file");
        unlink(html);
        put(directory, "invitation.html", "<a href=\"{{link}}\">Come in</a>");
        assert_int_equal(mail_template_load(&MAIL_INVITATION, directory, &template, &err), 0);
        mail_template_fill(template, (const struct mail_value[]){ { "link", "https://x/?a=1&b=2" }, { NULL, NULL } },
                           &words);
        assert_string_equal(words.subject, "Hi");
        assert_string_equal(words.text, "Come in: https://x/?a=1&b=2\n");
        assert_string_equal(words.html, "<a href=\"https://x/?a=1&amp;b=2\">Come in</a>");
        mail_words_release(&words);
        mail_template_free(template);
        unlink(text);
        unlink(html);
        rmdir(directory);
}

static void test_our_own_words_are_right_and_leave_no_field_unsaid(void **state)
{
        (void)state;
        for (size_t i = 0; MAILS[i] != NULL; i++) {
                struct mail_template *template = NULL;
                struct mail_words words;
                struct err err;

                assert_ptr_equal(mail_kind_find(MAILS[i]->name), MAILS[i]);
                assert_int_equal(mail_template_load(MAILS[i], NULL, &template, &err), 0);
                mail_template_fill(template, MAIL_EXAMPLE, &words);
                assert_contains(words.subject, "Example & Daughters");
                assert_contains(words.text, "Hello Ada Example,");
                assert_contains(words.text, "\n  https://example.com/follow-this\n");
                assert_contains(words.html, "Example &amp; Daughters");
                assert_contains(words.html, "href=\"https://example.com/follow-this\"");
                mail_words_release(&words);
                mail_template_free(template);
        }
        assert_null(mail_kind_find("unheard_of"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_values_stand_where_their_fields_are),
                SENTENCE(test_a_section_is_there_only_if_its_field_is),
                SENTENCE(test_no_value_becomes_html_or_another_header_or_a_field),
                SENTENCE(test_what_is_wrong_is_told_with_its_line),
                SENTENCE(test_the_operators_own_words_come_first_both_or_none),
                SENTENCE(test_our_own_words_are_right_and_leave_no_field_unsaid),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
