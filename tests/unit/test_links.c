/* Ids and links that prove by themselves that they are ours. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/contracts/operation_id.h"
#include "common/contracts/product_url.h"
#include "common/contracts/signed_link.h"

#define TENANT "01890a5d-ac96-774b-bcce-b302099a8057"
#define OTHER  "01890a5d-ac96-774b-bcce-b302099a8058"
#define KEY_1  "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2  "k2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="

static void test_operation_ids_repeat_for_the_same_request_only(void **state)
{
        struct id id = operation_id_make("app", "POST /api/signups", "key-1");

        (void)state;
        assert_string_equal(id.text, operation_id_make("app", "POST /api/signups", "key-1").text);
        assert_string_not_equal(id.text, operation_id_make("app", "POST /api/signups", "key-2").text);
        assert_string_not_equal(id.text, operation_id_make("app", "POST /api/signup", "key-1").text);
        assert_string_not_equal(id.text, operation_id_make("other", "POST /api/signups", "key-1").text);
        assert_string_not_equal(id.text, operation_id_make("appPOST /api", "/signups", "key-1").text);
        assert_string_not_equal(operation_id_make("app", "r", NULL).text, operation_id_make("app", "r", NULL).text);
        assert_string_not_equal(operation_id_make("app", "r", "").text, operation_id_make("app", "r", NULL).text);
}

static void test_an_operation_id_proves_that_it_is_ours(void **state)
{
        static const char hex[] = "0123456789abcdef";

        (void)state;
        for (int i = 0; i < 200; i++) {
                struct id id = operation_id_make("app", "r", NULL), stranger = id_new();

                assert_true(id_is_valid(id.text));
                assert_int_equal(id.text[14], '8');
                assert_true(operation_id_is_ours(id.text));
                assert_false(operation_id_is_ours(stranger.text));
                for (size_t at = 0; at < ID_LENGTH; at++) {
                        struct id changed = id;

                        changed.text[at] = id.text[at] == '-' ? 'a' : hex[(strchr(hex, id.text[at]) - hex + 1) % 16];
                        assert_false(operation_id_is_ours(changed.text));
                }
        }
        assert_false(operation_id_is_ours(""));
        assert_false(operation_id_is_ours(NULL));
}

static struct keyring *ring_of(const char *text)
{
        struct keyring *ring = NULL;

        assert_int_equal(keyring_parse("APP_KEYS", text, &ring, NULL), 0);
        return ring;
}

static void test_a_signed_link_holds_until_it_expires_and_names_its_subject(void **state)
{
        const int64_t now = 1769860800000, expires = now / 1000 + SIGNED_LINK_WEEK;
        struct keyring *ring = ring_of(KEY_1), *turned = ring_of(KEY_2 "," KEY_1), *other = ring_of(KEY_2);
        struct err err;

        (void)state;
        for (enum link_purpose purpose = LINK_INVITATION; purpose <= LINK_BILLING; purpose++) {
                auto_free char *text = signed_link_make(ring, purpose, TENANT, 3, expires);
                struct signed_link link = { 0 };

                assert_int_equal(strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_."),
                                 strlen(text));
                assert_int_equal(signed_link_check(ring, purpose, text, now, &link, &err), 0);
                assert_string_equal(link.subject.text, TENANT);
                assert_int_equal(link.number, 3);
                assert_int_equal(link.expires, expires);
                assert_int_equal(signed_link_check(turned, purpose, text, now, &link, &err), 0);
                assert_int_equal(signed_link_check(ring, purpose, text, expires * 1000, &link, &err), 0);
                assert_int_equal(signed_link_check(ring, purpose, text, expires * 1000 + 1, &link, &err), -ERR_GONE);
                assert_string_equal(err.code, "link_expired");
                assert_int_equal(signed_link_check(other, purpose, text, now, &link, &err), -ERR_INPUT);
                assert_string_equal(err.code, "link_invalid");
        }
        keyring_free(ring);
        keyring_free(turned);
        keyring_free(other);
}

static void test_a_signed_link_with_any_change_is_none_of_ours(void **state)
{
        static const char *const bad[] = { "",
                                           ".",
                                           "...",
                                           TENANT,
                                           TENANT ".3.1770465600.",
                                           TENANT ".3.1770465600.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *text = signed_link_make(ring, LINK_INVITATION, TENANT, 3, 1770465600),
                       *longer = mem_printf("%s.", text);
        auto_buf huge = { 0 };
        struct signed_link link = { .number = 77 };

        (void)state;
        for (size_t at = 0; text[at]; at++) {
                text[at] ^= 1;
                assert_int_equal(signed_link_check(ring, LINK_INVITATION, text, 1769860800000, &link, NULL),
                                 -ERR_INPUT);
                text[at] ^= 1;
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(signed_link_check(ring, LINK_INVITATION, bad[i], 0, &link, NULL), -ERR_INPUT);
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, longer, 0, &link, NULL), -ERR_INPUT);
        for (int i = 0; i < 10000; i++)
                buf_add_text(&huge, "a.");
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, huge.data, 0, &link, NULL), -ERR_INPUT);
        assert_int_equal(link.number, 77); /* set only on success */
        keyring_free(ring);
}

static void test_a_signature_of_something_else_makes_no_link(void **state)
{
        static const char *const unlike[] = { "", "x.3.9999999999", TENANT ".3", TENANT ".three.9999999999",
                                              "01890A5D-AC96-774B-BCCE-B302099A8057.3.9999999999" };
        struct keyring *ring = ring_of(KEY_1);
        struct signed_link link;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(unlike); i++) {
                auto_free char *signature = keyring_sign(ring, "tenantry invitation link", unlike[i]);
                auto_free char *text = mem_printf("%s.%s", unlike[i], signature);

                assert_int_equal(signed_link_check(ring, LINK_INVITATION, text, 0, &link, NULL), -ERR_INPUT);
        }
        keyring_free(ring);
}

static void test_a_link_for_one_purpose_is_not_valid_for_another(void **state)
{
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *invitation = signed_link_make(ring, LINK_INVITATION, TENANT, 0, 9999999999);
        auto_free char *billing = signed_link_make(ring, LINK_BILLING, TENANT, 0, 9999999999);
        struct signed_link link;
        struct err err;

        (void)state;
        assert_int_equal(signed_link_check(ring, LINK_BILLING, billing, 0, &link, &err), 0);
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, billing, 0, &link, &err), -ERR_INPUT);
        assert_string_equal(err.message, "this is not an invitation link");
        assert_int_equal(signed_link_check(ring, LINK_BILLING, invitation, 0, &link, &err), -ERR_INPUT);
        assert_string_equal(err.code, "link_invalid");
        keyring_free(ring);
}

/* This one was made when there was no other purpose. A gateway of any release takes the links of a provisioner of any
 * other, and those that are in people's mail boxes. */
static void test_invitations_are_signed_as_they_always_were(void **state)
{
        static const char first[] = TENANT ".3.1770465600.iSJnn-At25SovM26Q6de6KoI9ONkhjyQN3G42CaGtaY";
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *now = signed_link_make(ring, LINK_INVITATION, TENANT, 3, 1770465600);
        struct signed_link link;

        (void)state;
        assert_string_equal(now, first);
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, first, 1769860800000, &link, NULL), 0);
        keyring_free(ring);
}

static void test_the_products_address_has_the_slug_where_it_says_so(void **state)
{
        auto_free char *own = product_url_of("https://{slug}.shop.test/start", "acme");
        auto_free char *common = product_url_of("https://shop.test/start", "acme");

        (void)state;
        assert_string_equal(own, "https://acme.shop.test/start");
        assert_string_equal(common, "https://shop.test/start");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_operation_ids_repeat_for_the_same_request_only),
                SENTENCE(test_an_operation_id_proves_that_it_is_ours),
                SENTENCE(test_a_signed_link_holds_until_it_expires_and_names_its_subject),
                SENTENCE(test_a_signed_link_with_any_change_is_none_of_ours),
                SENTENCE(test_a_signature_of_something_else_makes_no_link),
                SENTENCE(test_a_link_for_one_purpose_is_not_valid_for_another),
                SENTENCE(test_invitations_are_signed_as_they_always_were),
                SENTENCE(test_the_products_address_has_the_slug_where_it_says_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
