/* Key rings: what is sealed opens for whom it is, with the keys there are. */
#include "tests/unit/keys.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"

static void test_a_key_ring_is_read_strictly_and_keys_are_never_echoed(void **state)
{
        static const char *const bad[] = {
                "",
                ",",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "k1:",
                "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",
                "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIQ==",
                "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=x",
                "k.1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:k1",
                KEY_1 "," KEY_1,
                KEY_1 ",k2:AAECAwQ",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct keyring *ring = NULL;
                struct err err;

                assert_int_equal(keyring_parse("UNIT_KEYS", bad[i], &ring, &err), -ERR_INPUT);
                assert_null(ring);
                assert_string_equal(err.field, "UNIT_KEYS");
                assert_lacks(err.message, "AAECAwQ");
        }
}

static void test_a_key_ring_holds_sixteen_keys_and_says_so_at_the_next(void **state)
{
        auto_buf text = { 0 };
        struct keyring *ring;
        struct err err;

        (void)state;
        for (int i = 0; i < 16; i++)
                buf_printf(&text, "%sk%d:%s", i ? ", " : "", i, strchr(KEY_1, ':') + 1);
        ring = ring_of(text.data);
        assert_string_equal(keyring_primary(ring), "k0");
        keyring_free(ring);
        buf_printf(&text, ",k16:%s", strchr(KEY_1, ':') + 1);
        assert_int_equal(keyring_parse("UNIT_KEYS", text.data, &ring, &err), -ERR_INPUT);
        assert_contains(err.message, "16");
        keyring_free(NULL);
}

static void test_a_new_key_makes_a_ring(void **state)
{
        auto_secret char *one = keyring_new_key("k1"), *two = keyring_new_key("k1");
        struct keyring *ring = ring_of(one);

        (void)state;
        assert_string_not_equal(one, two);
        assert_string_equal(keyring_primary(ring), "k1");
        keyring_free(ring);
}

static void test_a_sealed_secret_opens_for_its_tenant_field_and_generation_only(void **state)
{
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *sealed = keyring_seal(ring, TENANT, "app_password", 2, "hunter2");
        auto_secret char *plain = NULL;
        char *none = NULL;
        struct err err;

        (void)state;
        assert_memory_equal(sealed, "k1.", 3);
        assert_lacks(sealed, "hunter2");
        assert_int_equal(keyring_open(ring, TENANT, "app_password", 2, sealed, &plain, &err), 0);
        assert_string_equal(plain, "hunter2");
        assert_int_equal(keyring_open(ring, OTHER, "app_password", 2, sealed, &none, &err), -ERR_PERMANENT);
        assert_int_equal(keyring_open(ring, TENANT, "owner_password", 2, sealed, &none, &err), -ERR_PERMANENT);
        assert_int_equal(keyring_open(ring, TENANT, "app_password", 3, sealed, &none, &err), -ERR_PERMANENT);
        assert_null(none);
        keyring_free(ring);
}

static void test_secrets_of_every_length_come_back(void **state)
{
        struct keyring *ring = ring_of(KEY_1);
        char text[300];

        (void)state;
        for (size_t length = 0; length < sizeof(text); length += 7) {
                auto_free char *sealed = NULL;
                auto_secret char *plain = NULL;

                memset(text, 'x', length);
                text[length] = '\0';
                sealed = keyring_seal(ring, TENANT, "f", 1, text);
                assert_int_equal(keyring_open(ring, TENANT, "f", 1, sealed, &plain, NULL), 0);
                assert_string_equal(plain, text);
        }
        keyring_free(ring);
}

static void test_rotation_goes_from_decrypt_only_to_primary_to_dropped(void **state)
{
        struct keyring *before = ring_of(KEY_1), *spread = ring_of(KEY_1 "," KEY_2);
        struct keyring *turned = ring_of(KEY_2 ", " KEY_1), *after = ring_of(KEY_2);
        auto_free char *old = keyring_seal(before, TENANT, "f", 1, "secret");
        auto_free char *new = keyring_seal(turned, TENANT, "f", 1, "secret");
        struct keyring *const opens_old[] = { before, spread, turned }, *const opens_new[] = { spread, turned, after };
        char *none = NULL;
        struct err err;

        (void)state;
        assert_string_equal(keyring_primary(spread), "k1");
        assert_string_equal(keyring_primary(turned), "k2");
        for (size_t i = 0; i < 3; i++) {
                auto_secret char *one = NULL, *two = NULL;

                assert_int_equal(keyring_open(opens_old[i], TENANT, "f", 1, old, &one, &err), 0);
                assert_int_equal(keyring_open(opens_new[i], TENANT, "f", 1, new, &two, &err), 0);
                assert_string_equal(one, two);
        }
        assert_int_equal(keyring_open(after, TENANT, "f", 1, old, &none, &err), -ERR_BUSY);
        keyring_free(before);
        keyring_free(spread);
        keyring_free(turned);
        keyring_free(after);
}

static void test_an_unknown_key_id_means_retry_and_is_named(void **state)
{
        struct keyring *one = ring_of(KEY_1), *two = ring_of(KEY_2);
        auto_free char *sealed = keyring_seal(two, TENANT, "f", 1, "secret");
        char *none = NULL;
        struct err err;

        (void)state;
        assert_int_equal(keyring_open(one, TENANT, "f", 1, sealed, &none, &err), -ERR_BUSY);
        assert_true(err_is_transient(&err));
        assert_contains(err.message, "\"k2\"");
        assert_contains(err.message, "UNIT_KEYS");
        assert_int_equal(keyring_open(one, TENANT, "f", 1, "k12.AAAA", &none, &err), -ERR_BUSY);
        assert_int_equal(keyring_open(one, TENANT, "f", 1, "k.AAAA", &none, &err), -ERR_BUSY);
        keyring_free(one);
        keyring_free(two);
}

static void test_a_sealed_secret_with_any_changed_character_does_not_open(void **state)
{
        static const char *const no_seal[] = { "", "k1", "k1.", "k1.A", "k1.AAAA", "k1.!!!!" };
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *sealed = keyring_seal(ring, TENANT, "f", 1, "hunter2");
        char *none = NULL;

        (void)state;
        for (size_t at = 0; sealed[at]; at++) {
                sealed[at] ^= 1;
                assert_true(keyring_open(ring, TENANT, "f", 1, sealed, &none, NULL) < 0);
                sealed[at] ^= 1;
        }
        for (size_t i = 0; i < ARRAY_SIZE(no_seal); i++)
                assert_int_equal(keyring_open(ring, TENANT, "f", 1, no_seal[i], &none, NULL), -ERR_PERMANENT);
        keyring_free(ring);
}

static void test_a_signature_holds_for_its_purpose_and_text_only(void **state)
{
        struct keyring *one = ring_of(KEY_1), *both = ring_of(KEY_2 "," KEY_1), *two = ring_of(KEY_2);
        auto_free char *signature = keyring_sign(one, "links", "text");
        auto_free char *longer = mem_printf("%sA", signature), *padded = mem_printf("%s=", signature);

        (void)state;
        assert_true(keyring_verify(one, "links", "text", signature));
        assert_true(keyring_verify(both, "links", "text", signature));
        assert_false(keyring_verify(two, "links", "text", signature));
        assert_false(keyring_verify(one, "link", "text", signature));
        assert_false(keyring_verify(one, "links", "texts", signature));
        assert_false(keyring_verify(one, "links", "text", ""));
        assert_false(keyring_verify(one, "links", "text", longer));
        assert_true(keyring_verify(one, "links", "text", padded)); /* the same bytes, written with padding */
        for (size_t at = 0; signature[at]; at++) {
                signature[at] ^= 1;
                assert_false(keyring_verify(one, "links", "text", signature));
                signature[at] ^= 1;
        }
        keyring_free(one);
        keyring_free(both);
        keyring_free(two);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_key_ring_is_read_strictly_and_keys_are_never_echoed),
                SENTENCE(test_a_key_ring_holds_sixteen_keys_and_says_so_at_the_next),
                SENTENCE(test_a_new_key_makes_a_ring),
                SENTENCE(test_a_sealed_secret_opens_for_its_tenant_field_and_generation_only),
                SENTENCE(test_secrets_of_every_length_come_back),
                SENTENCE(test_rotation_goes_from_decrypt_only_to_primary_to_dropped),
                SENTENCE(test_an_unknown_key_id_means_retry_and_is_named),
                SENTENCE(test_a_sealed_secret_with_any_changed_character_does_not_open),
                SENTENCE(test_a_signature_holds_for_its_purpose_and_text_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
