/* Encrypted files of any size: a header line of JSON with the file's own key, sealed by a key ring, then chunks of
 * AES-256-GCM bound to their number, the last one marked. Truncated, swapped or changed chunks do not open. */
#pragma once

#include "common/base/keyring.h"

struct sealed_writer;
struct sealed_reader;

/* Functions that touch the disk may block as long as the disk does, and use no key ring: they may run on a worker
 * thread, one call at a time. Only sealed_writer_new and sealed_reader_unlock use the ring, and they touch no disk. */

/* Creates the key for a file that has not been opened yet. */
struct sealed_writer *sealed_writer_new(const struct keyring *ring, const char *tenant_id);
/* Creates path (mode 0600, replaced if there) and writes the header. Returns 0 or -ERR_BUSY (disk). */
int sealed_writer_open(struct sealed_writer *writer, const char *path, struct err *err);
int sealed_writer_add(struct sealed_writer *writer, const void *bytes, size_t length, struct err *err);
/* Writes the last chunk and makes it durable. Frees writer in any case. */
int sealed_writer_finish(struct sealed_writer *writer, struct err *err);
/* Frees the writer; the file stays as it is. NULL is fine. */
void sealed_writer_abandon(struct sealed_writer *writer);

/* Reads the header. Returns 0 and *ret, -ERR_BUSY (disk) or -ERR_PERMANENT (not one of ours). */
int sealed_reader_open(const char *path, struct sealed_reader **ret, struct err *err);
/* Call before the first piece. Returns 0 or the error of keyring_open. */
int sealed_reader_unlock(struct sealed_reader *reader, const struct keyring *ring, struct err *err);
/* The next piece, borrowed until the next call. Returns its length, 0 after the last one, or a negative error; the end
 * of the file before the last chunk is one. */
ssize_t sealed_reader_next(struct sealed_reader *reader, const unsigned char **ret, struct err *err);
/* SHA-256 of the file's bytes read so far, in hexadecimal; the caller frees. */
char *sealed_reader_checksum(struct sealed_reader *reader);
int64_t sealed_reader_bytes(const struct sealed_reader *reader);
void sealed_reader_free(struct sealed_reader *reader);
