/* What a company may say when it signs up, and what is made of it. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/contracts/mail_address.h"
#include "common/contracts/tenant.h"

#define TENANT "01890a5d-ac96-774b-bcce-b302099a8057"

static json_t *good_signup(void)
{
        return json_pack("{s:s, s:s, s:s}", "tenant_id", TENANT, "company", "Acme", "email", "ada@acme.test");
}

static bool signup_takes(const char *field, const char *value)
{
        auto_json *data = good_signup(), *checked = NULL;
        struct err err = { 0 };
        int rc;

        json_set_text(data, field, value);
        rc = contract_check(&TENANT_CONTRACTS[0], TENANT, data, &checked, &err);
        if (rc < 0)
                assert_string_equal(err.field, field);
        return rc == 0;
}

static void test_mail_addresses_are_plain_ones(void **state)
{
        static const char *const good[] = { "a@b.co",
                                            "first.last+tag@sub.example.com",
                                            "o'brien@example.ie",
                                            "user@1-2.example",
                                            "USER@EXAMPLE.COM",
                                            "x@xn--caf-dma.example",
                                            "!#$%&'*+/=?^_`{|}~-@example.com",
                                            "a@1.2.3.4",
                                            "a@caf\xc3\xa9.example",
                                            "a@caf\x65\xcc\x81.example" };
        static const char *const bad[] = {
                "",
                "a",
                "@",
                "a@",
                "@b.co",
                "a@b",
                "a@b.",
                "a@.co",
                "a@b..co",
                ".a@b.co",
                "a.@b.co",
                "a..b@c.co",
                "a@b@c.co",
                "a b@c.co",
                "a@b c.co",
                " a@b.co",
                "a@b.co ",
                "a@b_c.co",
                "a@b!.co",
                "a@-b.co",
                "a@b-.co",
                "a@b.co-",
                "a@b.-co",
                "a@[1.2.3.4]",
                "\"a\"@b.co",
                "Ann <a@b.co>",
                "a@b.co,c@d.co",
                "a@b.co;c@d.co",
                "a(x)@b.co",
                "caf\xc3\xa9@b.co",
                "caf\xc3\xa9@caf\xc3\xa9.example",
                "a@caf\xc3\xa9",
                "a@-caf\xc3\xa9.example",
                "a@caf\xc3\xa9-.example",
                "a@caf\xc3\xa9..example",
                "a@caf\xc3\xa9 .example",
                "a@caf\xc3\xa9_x.example",
                "a@caf\xc3\xa9@b.example",
                "a@\xf0\x9f\x98\x80\xe2\x80\xae.example",
                "a\\@b.co",
                "a:b@c.co",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                if (!signup_takes("email", good[i]))
                        fail_msg("\"%s\" is refused", good[i]);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (signup_takes("email", bad[i]))
                        fail_msg("\"%s\" is taken", bad[i]);
}

static void test_an_international_domain_is_kept_in_its_ascii_form(void **state)
{
        static const char *const cases[][2] = {
                { "Ada@b\xc3\xbc\x63her.Example", "ada@xn--bcher-kva.example" },
                { "ada@B\xc3\x9c\x43HER.example", "ada@xn--bcher-kva.example" },
                { "ada@bu\xcc\x88\x63her.example", "ada@xn--bcher-kva.example" },
                { "ada@stra\xc3\x9f\x65.example", "ada@xn--strae-oqa.example" },
                { "ada@\xe4\xbe\x8b\xe3\x81\x88.jp", "ada@xn--r8jz45g.jp" },
                { "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example" },
        };
        char *longest = NULL;
        auto_buf text = { 0 };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *address = NULL;

                assert_int_equal(mail_address_read("email", cases[i][0], &address, &err), 0);
                assert_string_equal(address, cases[i][1]);
        }
        assert_int_equal(mail_address_read("email", "j\xc3\xb6rg@b.example", &longest, &err), -ERR_INPUT);
        assert_string_equal(err.field, "email");
        assert_contains(err.message, "before the @");
        buf_add_text(&text, "ada@\xc3\xbc");
        for (int i = 0; i < 50; i++)
                buf_add_text(&text, ".\xc3\xbc");
        assert_int_equal(mail_address_read("email", text.data, &longest, &err), -ERR_INPUT); /* 254 in ASCII, too */
}

static void test_the_two_sides_of_a_mail_address_have_limits_of_their_own(void **state)
{
        char local[80], domain[100];

        (void)state;
        for (size_t length = 64; length <= 65; length++) {
                memset(local, 'a', length);
                strcpy(local + length, "@b.co");
                assert_int_equal(signup_takes("email", local), length == 64);
        }
        for (size_t length = 63; length <= 64; length++) {
                strcpy(domain, "a@");
                memset(domain + 2, 'b', length);
                strcpy(domain + 2 + length, ".co");
                assert_int_equal(signup_takes("email", domain), length == 63);
        }
}

static void test_subdomains_are_dns_labels(void **state)
{
        static const char *const good[] = { "abc", "a-b",    "a--b",
                                            "123", "a1b2c3", "abcdefghijabcdefghijabcdefghijabcdefghij" };
        static const char *const bad[] = { "ab",  "-abc", "abc-", "ABC",
                                           "a.b", "a_b",  "a b",  "caf\xc3\xa9",
                                           "---", "a/b",  "abc.", "abcdefghijabcdefghijabcdefghijabcdefghijk" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(signup_takes("subdomain", good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(signup_takes("subdomain", bad[i]));
}

static void test_names_of_plans_and_regions_are_simple_words(void **state)
{
        static const char *const good[] = { "a", "eu-central-1", "pro_2026", "v1.5" };
        static const char *const bad[] = { "Pro", "eu central", "a/b", "a;b", "a'b", "\xc3\xa9" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(signup_takes("plan", good[i]) && signup_takes("region", good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(signup_takes("plan", bad[i]) || signup_takes("region", bad[i]));
}

static void test_lengths_of_texts_are_counted_in_characters_not_bytes(void **state)
{
        auto_buf text = { 0 };

        (void)state;
        for (int i = 0; i < 200; i++)
                buf_add_text(&text, "\xf0\x9f\x92\x8a");
        assert_true(signup_takes("company", text.data));
        buf_add_text(&text, "x");
        assert_false(signup_takes("company", text.data));
        assert_false(signup_takes("company", "    "));
        assert_true(signup_takes("company", "\xc2\xa0"
                                            "A")); /* U+00A0 is no control character */
        assert_true(signup_takes("company", "O'Neill & \"Sons\" <Ltd>; drop table x --"));
}

static void test_slugs_are_made_of_what_a_name_has(void **state)
{
        static const char *const cases[][2] = {
                { "Corner Pharmacy", "corner-pharmacy" },
                { "  --Corner--  Pharmacy!! ", "corner-pharmacy" },
                { "O'Neill & Sons", "o-neill-sons" },
                { "Caf\xc3\xa9 Noir", "cafe-noir" },
                { "B\xc3\xa4"
                  "ckerei M\xc3\xbcller",
                  "baeckerei-mueller" },
                { "\xc5\x81\xc3\xb3"
                  "d\xc5\xba Stra\xc3\x9f"
                  "e",
                  "lodz-strasse" },
                { "\xd8\xb5\xd9\x8a\xd8\xaf\xd9\x84\xd9\x8a\xd8\xa9", "tenant" },
                { "AB", "tenant" },
                { "A-B", "a-b" },
                { "123", "123" },
                { "abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghijklmnopqrstuvwxyz012345" },
                { "abcdefghijklmnopqrstuvwxyz01234 56789", "abcdefghijklmnopqrstuvwxyz01234" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_json *data = good_signup(), *checked = NULL;

                json_set_text(data, "company", cases[i][0]);
                assert_int_equal(contract_check(&TENANT_CONTRACTS[0], TENANT, data, &checked, NULL), 0);
                assert_string_equal(json_text(checked, "slug"), cases[i][1]);
                assert_true(signup_takes("subdomain", json_text(checked, "slug"))); /* a slug is a good subdomain */
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_mail_addresses_are_plain_ones),
                SENTENCE(test_an_international_domain_is_kept_in_its_ascii_form),
                SENTENCE(test_the_two_sides_of_a_mail_address_have_limits_of_their_own),
                SENTENCE(test_subdomains_are_dns_labels),
                SENTENCE(test_names_of_plans_and_regions_are_simple_words),
                SENTENCE(test_lengths_of_texts_are_counted_in_characters_not_bytes),
                SENTENCE(test_slugs_are_made_of_what_a_name_has),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
