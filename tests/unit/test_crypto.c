/* Cryptography, key rings and sealed files: known vectors, and that nothing changed or moved still opens. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/keyring.h"
#include "common/base/sealed_file.h"

#include <sys/stat.h>

#define TENANT "01890a5d-ac96-774b-bcce-b302099a8057"
#define OTHER  "01890a5d-ac96-774b-bcce-b302099a8058"
#define KEY_1  "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2  "k2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8"

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

static struct keyring *ring_of(const char *text)
{
        struct keyring *ring = NULL;
        struct err err;

        if (keyring_parse("UNIT_KEYS", text, &ring, &err) < 0)
                fail_msg("%s", err.message);
        return ring;
}

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

/* Writes in pieces of an odd size, so that they never fall together with the chunks. */
static char *write_sealed(const struct keyring *ring, const unsigned char *bytes, size_t length)
{
        char *path = scratch_text("what stood there before, and is longer than an empty archive's header");
        struct sealed_writer *writer = sealed_writer_new(ring, TENANT);
        struct err err;

        assert_int_equal(sealed_writer_open(writer, path, &err), 0);
        for (size_t at = 0; at < length; at += 10007)
                assert_int_equal(sealed_writer_add(writer, bytes + at, MIN(length - at, 10007), &err), 0);
        assert_int_equal(sealed_writer_finish(writer, &err), 0);
        return path;
}

/* 0 and what was in it, or the error. */
static int read_sealed(const char *path, const struct keyring *ring, struct buf *out, struct err *err)
{
        struct sealed_reader *reader = NULL;
        const unsigned char *piece = NULL;
        int rc = sealed_reader_open(path, &reader, err);
        ssize_t n;

        if (rc == 0)
                rc = sealed_reader_unlock(reader, ring, err);
        if (rc < 0) {
                sealed_reader_free(reader);
                return rc;
        }
        while ((n = sealed_reader_next(reader, &piece, err)) > 0)
                buf_add(out, piece, (size_t)n);
        if (n == 0)
                assert_int_equal(sealed_reader_next(reader, &piece, err), 0); /* the end stays the end */
        sealed_reader_free(reader);
        return (int)n;
}

static unsigned char *random_bytes(size_t length)
{
        unsigned char *bytes = mem_alloc(length, 1);

        crypto_random(bytes, length);
        return bytes;
}

static void read_whole(const char *path, struct buf *out)
{
        FILE *in = fopen(path, "re");
        char chunk[65536];
        size_t n;

        assert_non_null(in);
        while ((n = fread(chunk, 1, sizeof(chunk), in)) > 0)
                buf_add(out, chunk, n);
        fclose(in);
}

static const size_t FILE_SIZES[] = { 0, 1, 65535, 65536, 65537, 1024 * 1024 };

static void test_sealed_files_of_every_size_come_back(void **state)
{
        struct keyring *ring = ring_of(KEY_1), *later = ring_of(KEY_2 "," KEY_1);

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(FILE_SIZES); i++) {
                auto_free unsigned char *bytes = random_bytes(FILE_SIZES[i]);
                char *path = write_sealed(ring, bytes, FILE_SIZES[i]);
                auto_buf out = { 0 }, raw = { 0 };
                struct err err;

                if (read_sealed(path, later, &out, &err) < 0)
                        fail_msg("%zu bytes: %s", FILE_SIZES[i], err.message);
                assert_int_equal(out.length, FILE_SIZES[i]);
                if (out.length > 0)
                        assert_memory_equal(out.data, bytes, out.length);
                read_whole(path, &raw);
                if (FILE_SIZES[i] > 32)
                        assert_null(memmem(raw.data, raw.length, bytes, 32));
                remove_scratch(path);
        }
        keyring_free(ring);
        keyring_free(later);
}

static void test_a_sealed_file_is_for_its_owner_alone(void **state)
{
        struct keyring *ring = ring_of(KEY_1);
        char *path;
        struct stat at;
        mode_t before = umask(0);

        (void)state;
        path = scratch_text("");
        chmod(path, 0666);
        for (int i = 0; i < 2; i++) {
                struct sealed_writer *writer = sealed_writer_new(ring, TENANT);

                assert_int_equal(sealed_writer_open(writer, path, NULL), 0);
                assert_int_equal(sealed_writer_finish(writer, NULL), 0);
                assert_int_equal(stat(path, &at), 0);
                assert_int_equal(at.st_mode & 0777, 0600);
                unlink(path);
        }
        umask(before);
        free(path);
        keyring_free(ring);
}

static void test_the_checksum_of_a_sealed_file_is_that_of_its_bytes(void **state)
{
        struct keyring *ring = ring_of(KEY_1);
        auto_free unsigned char *bytes = random_bytes(70000);
        char *path = write_sealed(ring, bytes, 70000);
        auto_free char *checksum = NULL, *expected = NULL;
        struct sealed_reader *reader = NULL;
        const unsigned char *piece;
        struct crypto_digest digest;
        auto_buf raw = { 0 };

        (void)state;
        assert_int_equal(sealed_reader_open(path, &reader, NULL), 0);
        assert_int_equal(sealed_reader_unlock(reader, ring, NULL), 0);
        while (sealed_reader_next(reader, &piece, NULL) > 0)
                ;
        read_whole(path, &raw);
        crypto_sha256(raw.data, raw.length, &digest);
        expected = digest_hex(&digest);
        checksum = sealed_reader_checksum(reader);
        assert_string_equal(checksum, expected);
        assert_int_equal(sealed_reader_bytes(reader), raw.length);
        sealed_reader_free(reader);
        sealed_reader_free(NULL);
        remove_scratch(path);
        keyring_free(ring);
}

/* Expects that the changed bytes do not open to the end. */
static void assert_damaged(const struct keyring *ring, const char *bytes, size_t length, const char *what, size_t at)
{
        char *path = scratch_file(bytes, length);
        struct err err = { 0 };
        auto_buf out = { 0 };

        if (read_sealed(path, ring, &out, &err) == 0)
                fail_msg("%s at %zu went unnoticed", what, at);
        assert_true(err.class == ERR_PERMANENT || strcmp(err.code, "key_unknown") == 0);
        remove_scratch(path);
}

static void test_a_small_sealed_file_fails_for_each_cut_and_each_flipped_bit(void **state)
{
        struct keyring *ring = ring_of(KEY_1);
        char *path = write_sealed(ring, (const unsigned char *)"pharmacy", 8);
        auto_buf raw = { 0 };

        (void)state;
        read_whole(path, &raw);
        for (size_t length = 0; length < raw.length; length++)
                assert_damaged(ring, raw.data, length, "a cut", length);
        for (size_t at = 0; at < raw.length; at++)
                for (int bit = 0; bit < 8; bit += 7) {
                        raw.data[at] = (char)(raw.data[at] ^ 1 << bit);
                        assert_damaged(ring, raw.data, raw.length, "a flipped bit", at);
                        raw.data[at] = (char)(raw.data[at] ^ 1 << bit);
                }
        buf_add(&raw, "\n", 1);
        assert_damaged(ring, raw.data, raw.length, "an appended byte", raw.length);
        remove_scratch(path);
        keyring_free(ring);
}

static void test_a_large_sealed_file_fails_when_chunks_are_cut_flipped_or_moved(void **state)
{
        const size_t chunk = 4 + CRYPTO_NONCE_BYTES + 65536 + CRYPTO_TAG_BYTES;
        struct keyring *ring = ring_of(KEY_1);
        auto_free unsigned char *bytes = random_bytes(3 * 65536 + 100);
        char *path = write_sealed(ring, bytes, 3 * 65536 + 100);
        auto_buf raw = { 0 }, moved = { 0 };
        size_t body;

        (void)state;
        read_whole(path, &raw);
        body = (size_t)(strchr(raw.data, '\n') + 1 - raw.data);
        for (size_t i = 0; i <= 3; i++) { /* each class of byte of each chunk: length, nonce, text, tag */
                const size_t at[] = { 0, 1, 3, 4, 15, 16, 60, (i < 3 ? chunk : 4 + 12 + 100 + 16) - 1 };

                for (size_t k = 0; k < ARRAY_SIZE(at); k++) {
                        size_t place = body + i * chunk + at[k];

                        raw.data[place] = (char)(raw.data[place] ^ 0x10);
                        assert_damaged(ring, raw.data, raw.length, "a flipped bit", place);
                        raw.data[place] = (char)(raw.data[place] ^ 0x10);
                        assert_damaged(ring, raw.data, place, "a cut", place);
                }
        }
        buf_add(&moved, raw.data, raw.length); /* two chunks change places */
        memcpy(moved.data + body, raw.data + body + chunk, chunk);
        memcpy(moved.data + body + chunk, raw.data + body, chunk);
        assert_damaged(ring, moved.data, moved.length, "a swap", 0);
        buf_reset(&moved); /* one is missing */
        buf_add(&moved, raw.data, body + chunk);
        buf_add(&moved, raw.data + body + 2 * chunk, raw.length - body - 2 * chunk);
        assert_damaged(ring, moved.data, moved.length, "a missing chunk", 1);
        buf_reset(&moved); /* one stands twice */
        buf_add(&moved, raw.data, body + chunk);
        buf_add(&moved, raw.data + body, raw.length - body);
        assert_damaged(ring, moved.data, moved.length, "a repeated chunk", 1);
        buf_reset(&moved); /* a last chunk too early */
        buf_add(&moved, raw.data, body);
        buf_add(&moved, raw.data + body + 3 * chunk, raw.length - body - 3 * chunk);
        assert_damaged(ring, moved.data, moved.length, "only the last chunk", 0);
        remove_scratch(path);
        keyring_free(ring);
}

static void test_a_sealed_file_does_not_open_with_another_ring_or_name(void **state)
{
        struct keyring *ring = ring_of(KEY_1), *other = ring_of(KEY_2);
        char *path = write_sealed(ring, (const unsigned char *)"x", 1);
        struct sealed_reader *reader = NULL;
        struct err err;

        (void)state;
        assert_int_equal(sealed_reader_open(path, &reader, &err), 0);
        assert_int_equal(sealed_reader_unlock(reader, other, &err), -ERR_BUSY);
        assert_string_equal(err.code, "key_unknown");
        assert_int_equal(sealed_reader_unlock(reader, ring, &err), 0);
        sealed_reader_free(TAKE_PTR(reader));
        remove_scratch(path);
        assert_int_equal(sealed_reader_open("/nonexistent/archive", &reader, &err), -ERR_BUSY);
        assert_null(reader);
        keyring_free(ring);
        keyring_free(other);
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
                SENTENCE(test_a_key_ring_is_read_strictly_and_keys_are_never_echoed),
                SENTENCE(test_a_key_ring_holds_sixteen_keys_and_says_so_at_the_next),
                SENTENCE(test_a_new_key_makes_a_ring),
                SENTENCE(test_a_sealed_secret_opens_for_its_tenant_field_and_generation_only),
                SENTENCE(test_secrets_of_every_length_come_back),
                SENTENCE(test_rotation_goes_from_decrypt_only_to_primary_to_dropped),
                SENTENCE(test_an_unknown_key_id_means_retry_and_is_named),
                SENTENCE(test_a_sealed_secret_with_any_changed_character_does_not_open),
                SENTENCE(test_a_signature_holds_for_its_purpose_and_text_only),
                SENTENCE(test_sealed_files_of_every_size_come_back),
                SENTENCE(test_a_sealed_file_is_for_its_owner_alone),
                SENTENCE(test_the_checksum_of_a_sealed_file_is_that_of_its_bytes),
                SENTENCE(test_a_small_sealed_file_fails_for_each_cut_and_each_flipped_bit),
                SENTENCE(test_a_large_sealed_file_fails_when_chunks_are_cut_flipped_or_moved),
                SENTENCE(test_a_sealed_file_does_not_open_with_another_ring_or_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
