/* Encrypted files of any size: a header line of JSON with the file's own key, sealed by a key ring, then chunks of
 * AES-256-GCM bound to their number, the last one marked. Cut, swapped or changed chunks do not open. */
#pragma once

#include "common/base/keyring.h"

struct sealed_writer;
struct sealed_reader;

/* Creates path (mode 0600, replaced if there). Returns 0 and *ret, or -ERR_BUSY (disk). */
int sealed_writer_open(const char *path, const struct keyring *ring, const char *tenant_id, struct sealed_writer **ret,
                       struct err *err);
int sealed_writer_add(struct sealed_writer *writer, const void *bytes, size_t length, struct err *err);
/* Writes the last chunk and makes it durable. Frees writer in any case. */
int sealed_writer_finish(struct sealed_writer *writer, struct err *err);
/* Gives up; the file stays as it is. NULL is fine. */
void sealed_writer_abandon(struct sealed_writer *writer);

int sealed_reader_open(const char *path, const struct keyring *ring, struct sealed_reader **ret, struct err *err);
/* The next piece, borrowed until the next call. Returns its length, 0 after the last one, or a negative error; the end
 * of the file before the last chunk is one. */
ssize_t sealed_reader_next(struct sealed_reader *reader, const unsigned char **ret, struct err *err);
/* SHA-256 of the file's bytes read so far, in hexadecimal; the caller frees. */
char *sealed_reader_checksum(struct sealed_reader *reader);
int64_t sealed_reader_bytes(const struct sealed_reader *reader);
void sealed_reader_free(struct sealed_reader *reader);
