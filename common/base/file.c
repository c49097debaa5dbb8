/* Files, read whole: see file.h. */
#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_refuse(const char *path, const char *why, struct err *err)
{
        return err_set(err, ERR_INPUT, "unreadable", "cannot read %s: %s", path, why);
}

/* A folder can be opened, and says so when it is read. */
static int file_open(const char *path, FILE **ret, struct err *err)
{
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        struct stat status;

        if (fd < 0)
                return file_refuse(path, strerror(errno), err);
        if (fstat(fd, &status) < 0 || !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
                close(fd);
                return file_refuse(path, "it is not a regular file", err);
        }
        *ret = fdopen(fd, "r");
        if (*ret != NULL)
                return 0;
        close(fd);
        return file_refuse(path, strerror(errno), err);
}

int file_read(const char *path, size_t limit, struct buf *text, struct err *err)
{
        FILE *in;
        char chunk[8192];
        size_t n;
        int rc = 0;

        if (file_open(path, &in, err) < 0)
                return -ERR_INPUT;
        buf_add(text, "", 0);
        while (text->length <= limit && (n = fread(chunk, 1, sizeof(chunk), in)) > 0)
                buf_add(text, chunk, n);
        if (ferror(in))
                rc = file_refuse(path, strerror(errno), err);
        fclose(in);
        return rc;
}
