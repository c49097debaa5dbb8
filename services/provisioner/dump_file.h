/* The file of one dump: written encrypted under a temporary name, read back, then renamed. */
#pragma once

#include "common/base/sealed_file.h"

struct dump_file;

/* Its name is DIRECTORY/TENANT/SAGA-FENCE.KIND, with .partial appended until it counts. directory is borrowed; no disk
 * is touched yet. */
struct dump_file *dump_file_new(const char *directory, const char *tenant, const char *saga, const char *fence,
                                const char *kind, const struct keyring *ring);
/* Borrowed. */
const char *dump_file_path(const struct dump_file *file);

/* The following functions touch the disk, which may block indefinitely: call them on a worker thread, one at a time.
 * Each returns 0 or an error: ERR_BUSY (disk) or ERR_PERMANENT (damaged). */

/* Creates the tenant's folder, removes what dead attempts of the same saga left there, opens the file. */
int dump_file_create(struct dump_file *file, struct err *err);
int dump_file_add(struct dump_file *file, const void *bytes, size_t length, struct err *err);
/* Everything is written: makes it durable, then opens it for reading. */
int dump_file_complete(struct dump_file *file, struct err *err);
/* The next piece, as sealed_reader_next. */
ssize_t dump_file_next(struct dump_file *file, const unsigned char **ret, struct err *err);
/* The file counts only now. Its name survives a power failure: the database may be dropped next. */
int dump_file_name(struct dump_file *file, struct err *err);
/* It will not be recorded: removes it, whatever its current name is. */
void dump_file_remove(struct dump_file *file);
/* NULL is fine. */
void dump_file_free(struct dump_file *file);

/* Between dump_file_complete and the first dump_file_next; touches no disk. */
int dump_file_unlock(struct dump_file *file, const struct keyring *ring, struct err *err);
/* Of what was read, before it gets its final name; the caller frees the checksum. */
char *dump_file_checksum(struct dump_file *file, int64_t *ret_bytes);
