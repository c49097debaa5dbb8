/* Files that people have written: read whole. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

/* Adds the file's bytes to text, at most some thousand beyond limit: then text->length is above it, which the caller
 * judges. Text is never without data. Blocks; but a pipe is not waited for: nobody may ever write into it. Returns 0;
 * or -ERR_INPUT "unreadable": missing, not allowed, or neither a regular file nor what leads to one. */
int file_read(const char *path, size_t limit, struct buf *text, struct err *err);
