/* Cryptography: known vectors, and that nothing changed or moved still opens. */
#include "tests/unit/check.h"

#include "common/base/crypto.h"

static char *digest_hex(const struct crypto_digest *digest)
{
        return crypto_hex(digest->bytes, sizeof(digest->bytes));
}

static void test_sha256_gives_the_published_digests(void **state)
{
        static const struct {
                const char *text, *hex;
        } cases[] = {
                { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
                { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
                { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct crypto_digest whole, pieces;
                struct crypto_hash *hash = crypto_hash_new();
                auto_free char *hex = NULL;

                crypto_sha256(cases[i].text, strlen(cases[i].text), &whole);
                hex = digest_hex(&whole);
                assert_string_equal(hex, cases[i].hex);
                for (const char *p = cases[i].text; *p; p++)
                        crypto_hash_add(hash, p, 1);
                crypto_hash_finish(hash, &pieces);
                assert_memory_equal(&pieces, &whole, sizeof(whole));
        }
}

/* In pieces, and twice under the same key. */
static void check_mac(const void *key, size_t key_length, const char *data, size_t length,
                      const struct crypto_digest *wanted)
{
        struct crypto_mac *mac = crypto_mac_new(key, key_length);

        for (int i = 0; i < 2; i++) {
                struct crypto_digest digest;

                crypto_mac_add(mac, data, 3);
                crypto_mac_add(mac, data + 3, length - 3);
                crypto_mac_digest(mac, &digest);
                assert_memory_equal(&digest, wanted, sizeof(digest));
        }
        crypto_mac_free(mac);
}

/* RFC 4231, cases 1 to 4, 6 and 7 (5 tests truncation, which we do not have). */
static void test_hmac_gives_the_digests_of_rfc_4231(void **state)
{
        static const struct {
                int key_byte;
                size_t key_length;
                const char *key, *data, *hex;
        } cases[] = {
                { 0x0b, 20, NULL, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
                { 0, 4, "Jefe", "what do ya want for nothing?",
                  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
                { 0xaa, 20, NULL, NULL, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
                { 0xaa, 131, NULL, "Test Using Larger Than Block-Size Key - Hash Key First",
                  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
                { 0xaa, 131, NULL,
                  "This is a test using a larger than block-size key and a larger than block-size data. The key needs "
                  "to be "
                  "hashed before being used by the HMAC algorithm.",
                  "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char key[131], dd[50];
                struct crypto_digest digest;
                auto_free char *hex = NULL;

                memset(key, cases[i].key_byte, sizeof(key));
                if (cases[i].key != NULL)
                        memcpy(key, cases[i].key, cases[i].key_length);
                memset(dd, 0xdd, sizeof(dd));
                crypto_hmac_sha256(key, cases[i].key_length, cases[i].data ? cases[i].data : dd,
                                   cases[i].data ? strlen(cases[i].data) : sizeof(dd), &digest);
                hex = digest_hex(&digest);
                assert_string_equal(hex, cases[i].hex);
                check_mac(key, cases[i].key_length, cases[i].data ? cases[i].data : dd,
                          cases[i].data ? strlen(cases[i].data) : sizeof(dd), &digest);
        }
}

static void test_base64_is_padded_and_of_the_older_alphabet(void **state)
{
        static const char *const cases[][2] = {
                { "", "" },        { "f", "Zg==" },          { "fo", "Zm8=" },
                { "foo", "Zm9v" }, { "foobar", "Zm9vYmFy" }, { "\xff\xef\xbe", "/+++" }
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *text = crypto_base64(cases[i][0], strlen(cases[i][0]));

                assert_string_equal(text, cases[i][1]);
        }
}

static void test_base64url_matches_rfc_4648_and_comes_back(void **state)
{
        static const char *const cases[][2] = {
                { "", "" },           { "f", "Zg" },          { "fo", "Zm8" },          { "foo", "Zm9v" },
                { "foob", "Zm9vYg" }, { "fooba", "Zm9vYmE" }, { "foobar", "Zm9vYmFy" }, { "\xff\xef\xbe", "_---" }
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *text = crypto_base64url(cases[i][0], strlen(cases[i][0]));
                unsigned char out[16];

                assert_string_equal(text, cases[i][1]);
                assert_int_equal(crypto_base64_decode(text, out), (int)strlen(cases[i][0]));
                assert_memory_equal(out, cases[i][0], strlen(cases[i][0]));
        }
        for (size_t length = 0; length < 200; length++) {
                unsigned char bytes[200], out[300];
                auto_free char *text = NULL;

                crypto_random(bytes, sizeof(bytes));
                text = crypto_base64url(bytes, length);
                assert_int_equal(crypto_base64_decode(text, out), (int)length);
                assert_memory_equal(out, bytes, length);
        }
}

static void test_base64_is_read_in_both_alphabets_but_in_one_form_only(void **state)
{
        static const char *const good[] = { "+/+/", "-_-_", "Zg==", "Zg", "Zm8=", "Zm8" };
        static const char *const bad[] = { "A",        "AAAAA", "Z",     "Zh",      "Zm9",   "Zg=",
                                           "Zg===",    "Zm9v=", "====",  "Zg==x",   "Zg=x=", "Zm 8",
                                           "Zm8\n",    "Z\xff", "Zm,8",  "=",       " Zm8",  "Zm9v\r\n",
                                           "Zm9v    ", "Zm-+8", "\tZm9", "Zm9v\n==" };
        unsigned char out[16];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(crypto_base64_decode(good[i], out) > 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(crypto_base64_decode(bad[i], out), -1);
}

static void test_hex_is_read_and_written(void **state)
{
        static const char *const bad[] = { "0", "0g", "g0", " 0", "0x", "\x10\x11", "00\x19\x10", "\xb0\xb0", "a\x01" };
        unsigned char all[256], out[256];
        auto_free char *text = NULL;

        (void)state;
        for (int i = 0; i < 256; i++)
                all[i] = (unsigned char)i;
        text = crypto_hex(all, sizeof(all));
        assert_int_equal(strlen(text), 512);
        assert_memory_equal(text, "000102", 6);
        assert_string_equal(text + 506, "fdfeff");
        assert_int_equal(crypto_hex_decode(text, out), 256);
        assert_memory_equal(out, all, 256);
        assert_int_equal(crypto_hex_decode("DEADbeef", out), 4);
        assert_memory_equal(out, "\xde\xad\xbe\xef", 4);
        assert_int_equal(crypto_hex_decode("", out), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(crypto_hex_decode(bad[i], out), -1);
}

static void test_comparing_in_constant_time_is_right(void **state)
{
        (void)state;
        assert_true(crypto_equal("abcd", "abcd", 4));
        assert_false(crypto_equal("abcd", "abce", 4));
        assert_false(crypto_equal("bbcd", "abcd", 4));
        assert_true(crypto_equal("a", "b", 0));
}

static void test_passwords_are_letters_and_digits_and_differ(void **state)
{
        auto_secret char *one = crypto_random_password(400), *two = crypto_random_password(400);
        auto_secret char *none = crypto_random_password(0);

        (void)state;
        assert_int_equal(strlen(one), 400);
        assert_int_equal(strspn(one, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"), 400);
        assert_string_not_equal(one, two);
        assert_string_equal(none, "");
}

static void test_a_seal_opens_with_its_key_and_binding_only(void **state)
{
        static const size_t sizes[] = { 0, 1, 15, 16, 17, 1000 };
        unsigned char key[CRYPTO_KEY_BYTES], other[CRYPTO_KEY_BYTES], plain[1000];

        (void)state;
        crypto_random(key, sizeof(key));
        crypto_random(other, sizeof(other));
        crypto_random(plain, sizeof(plain));
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                size_t length = sizes[i], sealed_length = length + CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES;
                auto_free unsigned char *sealed = mem_alloc(sealed_length, 1), *again = mem_alloc(sealed_length, 1);
                auto_free unsigned char *out = mem_alloc(length, 1);
                struct err err;

                crypto_seal(key, "bound", plain, length, sealed);
                crypto_seal(key, "bound", plain, length, again);
                assert_memory_not_equal(sealed, again, sealed_length); /* a fresh nonce each time */
                assert_int_equal(crypto_open(key, "bound", sealed, sealed_length, out, &err), 0);
                assert_memory_equal(out, plain, length);
                assert_int_equal(crypto_open(other, "bound", sealed, sealed_length, out, &err), -ERR_PERMANENT);
                assert_int_equal(crypto_open(key, "bounds", sealed, sealed_length, out, &err), -ERR_PERMANENT);
                assert_int_equal(crypto_open(key, "", sealed, sealed_length, out, &err), -ERR_PERMANENT);
                assert_int_equal(crypto_open(key, "bound", sealed, sealed_length - 1, out, &err), -ERR_PERMANENT);
                for (size_t at = 0; at < sealed_length; at++) {
                        sealed[at] ^= 1;
                        assert_int_equal(crypto_open(key, "bound", sealed, sealed_length, out, &err), -ERR_PERMANENT);
                        assert_string_equal(err.code, "seal_broken");
                        sealed[at] ^= 1;
                }
        }
}

static void test_what_is_too_short_for_a_seal_does_not_open(void **state)
{
        unsigned char key[CRYPTO_KEY_BYTES] = { 0 }, bytes[CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES] = { 0 }, out[1];

        (void)state;
        for (size_t length = 0; length <= sizeof(bytes); length++)
                assert_int_equal(crypto_open(key, "", bytes, length, out, NULL), -ERR_PERMANENT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_sha256_gives_the_published_digests),
                SENTENCE(test_hmac_gives_the_digests_of_rfc_4231),
                SENTENCE(test_base64_is_padded_and_of_the_older_alphabet),
                SENTENCE(test_base64url_matches_rfc_4648_and_comes_back),
                SENTENCE(test_base64_is_read_in_both_alphabets_but_in_one_form_only),
                SENTENCE(test_hex_is_read_and_written),
                SENTENCE(test_comparing_in_constant_time_is_right),
                SENTENCE(test_passwords_are_letters_and_digits_and_differ),
                SENTENCE(test_a_seal_opens_with_its_key_and_binding_only),
                SENTENCE(test_what_is_too_short_for_a_seal_does_not_open),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
