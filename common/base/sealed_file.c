/* Encrypted files of any size: see sealed_file.h. */
#include "common/base/sealed_file.h"

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT       "tenantry-archive-1"
#define CHUNK_BYTES  (64 * 1024)
#define SEALED_BYTES (CHUNK_BYTES + CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES)
#define HEADER_LIMIT 4096
#define KEY_FIELD    "archive_key"

struct sealed_writer {
        FILE *out; /* NULL until it is opened */
        char *header;
        unsigned char key[CRYPTO_KEY_BYTES], plain[CHUNK_BYTES], sealed[4 + SEALED_BYTES];
        size_t filled;
        uint64_t number;
};

struct sealed_reader {
        FILE *in;
        json_t *header;
        unsigned char key[CRYPTO_KEY_BYTES], plain[CHUNK_BYTES], sealed[4 + SEALED_BYTES];
        uint64_t number;
        bool ended;
        struct crypto_hash *hash;
        int64_t bytes;
};

static int sealed_disk_error(struct err *err, const char *what)
{
        return err_set(err, ERR_BUSY, "archive_disk", "%s: %s", what, strerror(errno));
}

static void sealed_aad_of(char out[48], uint64_t number, bool last)
{
        snprintf(out, 48, FORMAT " %llu %s", (unsigned long long)number, last ? "last" : "more");
}

/* Length in 4 bytes, most significant first; its top bit marks the last chunk. */
static int sealed_write_chunk(struct sealed_writer *writer, bool last, struct err *err)
{
        size_t length = writer->filled + CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES;
        uint32_t prefix = (uint32_t)length | (last ? 0x80000000u : 0);
        char aad[48];

        sealed_aad_of(aad, writer->number++, last);
        for (int i = 0; i < 4; i++)
                writer->sealed[i] = (unsigned char)(prefix >> (24 - 8 * i));
        crypto_seal(writer->key, aad, writer->plain, writer->filled, writer->sealed + 4);
        writer->filled = 0;
        if (fwrite(writer->sealed, 1, length + 4, writer->out) != length + 4)
                return sealed_disk_error(err, "cannot write the archive");
        return 0;
}

/* Readable only by us, whatever the umask is and whatever was there before. */
static FILE *sealed_create_private(const char *path)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        FILE *out = fd < 0 || fchmod(fd, 0600) < 0 ? NULL : fdopen(fd, "w");

        if (out == NULL && fd >= 0)
                close(fd);
        return out;
}

struct sealed_writer *sealed_writer_new(const struct keyring *ring, const char *tenant_id)
{
        struct sealed_writer *writer = NEW(struct sealed_writer);
        auto_secret char *key_text = NULL;
        auto_free char *sealed_key = NULL;

        crypto_random(writer->key, sizeof(writer->key));
        key_text = crypto_base64url(writer->key, sizeof(writer->key));
        sealed_key = keyring_seal(ring, tenant_id, KEY_FIELD, 1, key_text);
        writer->header =
                mem_printf("{\"format\":\"" FORMAT "\",\"tenant_id\":\"%s\",\"key\":\"%s\"}\n", tenant_id, sealed_key);
        return writer;
}

int sealed_writer_open(struct sealed_writer *writer, const char *path, struct err *err)
{
        writer->out = sealed_create_private(path);
        if (writer->out == NULL)
                return sealed_disk_error(err, "cannot create the archive");
        if (fputs(writer->header, writer->out) == EOF)
                return sealed_disk_error(err, "cannot write the archive");
        return 0;
}

int sealed_writer_add(struct sealed_writer *writer, const void *bytes, size_t length, struct err *err)
{
        const unsigned char *in = bytes;

        while (length > 0) {
                size_t part = MIN(length, CHUNK_BYTES - writer->filled);

                memcpy(writer->plain + writer->filled, in, part);
                writer->filled += part;
                in += part;
                length -= part;
                if (writer->filled == CHUNK_BYTES && sealed_write_chunk(writer, false, err) < 0)
                        return -ERR_BUSY;
        }
        return 0;
}

int sealed_writer_finish(struct sealed_writer *writer, struct err *err)
{
        int rc = sealed_write_chunk(writer, true, err);

        if (rc == 0 && (fflush(writer->out) != 0 || fsync(fileno(writer->out)) != 0))
                rc = sealed_disk_error(err, "cannot make the archive durable");
        sealed_writer_abandon(writer);
        return rc;
}

void sealed_writer_abandon(struct sealed_writer *writer)
{
        if (writer == NULL)
                return;
        if (writer->out != NULL)
                fclose(writer->out);
        free(writer->header);
        explicit_bzero(writer, sizeof(*writer));
        free(writer);
}

static int sealed_damaged(struct err *err)
{
        return err_set(err, ERR_PERMANENT, "archive_damaged", "the archive is damaged or not one of ours");
}

static size_t sealed_read_hashed(struct sealed_reader *reader, void *out, size_t length)
{
        size_t n = fread(out, 1, length, reader->in);

        crypto_hash_add(reader->hash, out, n);
        reader->bytes += (int64_t)n;
        return n;
}

static int sealed_read_header(struct sealed_reader *reader, struct err *err)
{
        char line[HEADER_LIMIT];
        size_t length = 0;

        while (length < sizeof(line) && sealed_read_hashed(reader, line + length, 1) == 1 && line[length] != '\n')
                length++;
        if (length == sizeof(line) || json_parse(line, length, &reader->header, NULL) < 0 ||
            json_text(reader->header, "format") == NULL || strcmp(json_text(reader->header, "format"), FORMAT) != 0 ||
            json_text(reader->header, "key") == NULL || json_text(reader->header, "tenant_id") == NULL)
                return sealed_damaged(err);
        return 0;
}

int sealed_reader_open(const char *path, struct sealed_reader **ret, struct err *err)
{
        struct sealed_reader *reader;
        FILE *in = fopen(path, "re");
        int rc;

        if (in == NULL)
                return sealed_disk_error(err, "cannot read the archive");
        reader = NEW(struct sealed_reader);
        reader->in = in;
        reader->hash = crypto_hash_new();
        rc = sealed_read_header(reader, err);
        if (rc < 0)
                sealed_reader_free(reader);
        else
                *ret = reader;
        return rc;
}

int sealed_reader_unlock(struct sealed_reader *reader, const struct keyring *ring, struct err *err)
{
        auto_secret char *key = NULL;
        unsigned char bytes[64];
        int rc = keyring_open(ring, json_text(reader->header, "tenant_id"), KEY_FIELD, 1,
                              json_text(reader->header, "key"), &key, err);

        if (rc < 0)
                return rc;
        if (strlen(key) >= sizeof(bytes) || crypto_base64_decode(key, bytes) != CRYPTO_KEY_BYTES)
                return sealed_damaged(err);
        memcpy(reader->key, bytes, sizeof(reader->key));
        explicit_bzero(bytes, sizeof(bytes));
        return 0;
}

ssize_t sealed_reader_next(struct sealed_reader *reader, const unsigned char **ret, struct err *err)
{
        const size_t overhead = CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES;
        unsigned char *s = reader->sealed;
        uint32_t prefix;
        size_t length;
        char aad[48];

        if (reader->ended)
                return 0;
        if (sealed_read_hashed(reader, s, 4) != 4)
                return sealed_damaged(err);
        prefix = (uint32_t)s[0] << 24 | (uint32_t)s[1] << 16 | (uint32_t)s[2] << 8 | s[3];
        reader->ended = prefix >> 31;
        length = prefix & 0x7fffffff;
        if (length < overhead || length > SEALED_BYTES || sealed_read_hashed(reader, s + 4, length) != length)
                return sealed_damaged(err);
        sealed_aad_of(aad, reader->number++, reader->ended);
        if (crypto_open(reader->key, aad, s + 4, length, reader->plain, NULL) < 0)
                return sealed_damaged(err);
        if (reader->ended && fgetc(reader->in) != EOF)
                return sealed_damaged(err); /* something was appended */
        *ret = reader->plain;
        if (reader->ended && length == overhead)
                return 0;
        return (ssize_t)(length - overhead);
}

char *sealed_reader_checksum(struct sealed_reader *reader)
{
        struct crypto_digest digest;

        crypto_hash_finish(TAKE_PTR(reader->hash), &digest);
        return crypto_hex(digest.bytes, sizeof(digest.bytes));
}

int64_t sealed_reader_bytes(const struct sealed_reader *reader)
{
        return reader->bytes;
}

void sealed_reader_free(struct sealed_reader *reader)
{
        struct crypto_digest ignored;

        if (reader == NULL)
                return;
        fclose(reader->in);
        json_decref(reader->header);
        if (reader->hash != NULL)
                crypto_hash_finish(reader->hash, &ignored);
        explicit_bzero(reader, sizeof(*reader));
        free(reader);
}
