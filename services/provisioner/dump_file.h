/* The file of one dump: written encrypted without a name that counts, read back, named. */
#pragma once

#include "common/base/sealed_file.h"

struct dump_file;

/* What it is called follows from the rest: DIRECTORY/TENANT/SAGA-FENCE.KIND, and .partial behind it until it counts.
 * directory is borrowed; no disk is touched yet. */
struct dump_file *dump_file_new(const char *directory, const char *tenant, const char *saga, const char *fence,
                                const char *kind, const struct keyring *ring);
/* Borrowed. */
const char *dump_file_path(const struct dump_file *file);

/* From here on the disk is touched, which may block for as long as it likes: for a worker thread, one call at a time.
 * Each returns 0 or an error of ERR_BUSY (disk) or ERR_PERMANENT (damaged). */

/* Makes the tenant's folder, removes what died attempts of the same saga left there, opens the file. */
int dump_file_create(struct dump_file *file, struct err *err);
int dump_file_add(struct dump_file *file, const void *bytes, size_t length, struct err *err);
/* All is in it, and durable. Then opens it for reading. */
int dump_file_complete(struct dump_file *file, struct err *err);
/* The next piece, as sealed_reader_next. */
ssize_t dump_file_next(struct dump_file *file, const unsigned char **ret, struct err *err);
/* The file counts only now. Its name outlives a power cut: the database may be dropped next. */
int dump_file_name(struct dump_file *file, struct err *err);
/* Nobody will record it: it goes, whatever it is called by now. */
void dump_file_remove(struct dump_file *file);
/* NULL is fine. */
void dump_file_free(struct dump_file *file);

/* Between dump_file_complete and the first dump_file_next; touches no disk. */
int dump_file_unlock(struct dump_file *file, const struct keyring *ring, struct err *err);
/* Of what was read, before it is named; the caller frees the checksum. */
char *dump_file_checksum(struct dump_file *file, int64_t *ret_bytes);
