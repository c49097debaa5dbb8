/* Sealed files: what was written comes back, and nothing changed or moved does. */
#include "tests/unit/keys.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/sealed_file.h"

#include <sys/stat.h>

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
        expected = crypto_hex(digest.bytes, sizeof(digest.bytes));
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
                SENTENCE(test_sealed_files_of_every_size_come_back),
                SENTENCE(test_a_sealed_file_is_for_its_owner_alone),
                SENTENCE(test_the_checksum_of_a_sealed_file_is_that_of_its_bytes),
                SENTENCE(test_a_small_sealed_file_fails_for_each_cut_and_each_flipped_bit),
                SENTENCE(test_a_large_sealed_file_fails_when_chunks_are_cut_flipped_or_moved),
                SENTENCE(test_a_sealed_file_does_not_open_with_another_ring_or_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
