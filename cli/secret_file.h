/* A secret that is shown only once, on its way into a file that only its owner may read. */
#pragma once

#include "common/base/err.h"

struct secret_file {
        const char *path; /* borrowed */
        char *temporary;  /* beside it; NULL once it has its name */
        int fd;
        bool replace;
};

/* Before there is a secret, so that there is a place for it when there is: a new file of mode 0600 beside path. Without
 * replace, a path that exists is refused. Returns 0 or -ERR_INPUT; to be closed if 0. */
int secret_file_open(struct secret_file *file, const char *path, bool replace, struct err *err);
/* The secret and a line end, on disk before the file gets its name. Returns 0 or -ERR_INPUT. */
int secret_file_write(struct secret_file *file, const char *secret, struct err *err);
void secret_file_close(struct secret_file *file);

/* Whether the file has exactly this secret. */
bool secret_file_has(const char *path, const char *secret);
