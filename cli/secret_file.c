/* A secret on its way into a file: see secret_file.h. */
#include "cli/secret_file.h"

#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_BYTES 4096

static int secret_refuse(const char *path, int why, struct err *err)
{
        return err_set(err, ERR_INPUT, "unwritable", "cannot write %.200s: %s", path, strerror(why));
}

int secret_file_open(struct secret_file *file, const char *path, bool replace, struct err *err)
{
        struct stat found;

        *file = (struct secret_file){ .path = path, .replace = replace, .fd = -1 };
        if (!replace && lstat(path, &found) == 0)
                return secret_refuse(path, EEXIST, err);
        if (stat(path, &found) == 0 && S_ISDIR(found.st_mode))
                return secret_refuse(path, EISDIR, err);
        file->temporary = mem_printf("%s.XXXXXX", path);
        file->fd = mkostemp(file->temporary, O_CLOEXEC); /* O_EXCL, 0600 */
        if (file->fd >= 0)
                return 0;
        free(TAKE_PTR(file->temporary));
        return secret_refuse(path, errno, err);
}

static int secret_write_all(int fd, const char *text, size_t length)
{
        while (length > 0) {
                ssize_t n = write(fd, text, length);

                if (n < 0 && errno != EINTR)
                        return -1;
                text += MAX(n, 0);
                length -= (size_t)MAX(n, 0);
        }
        return fsync(fd);
}

/* Without replace, somebody else's file that has appeared meanwhile stays. */
static int secret_give_name(const struct secret_file *file)
{
        if (file->replace)
                return rename(file->temporary, file->path);
        if (renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS) /* not every file system can do that */
                return -1;
        return link(file->temporary, file->path) < 0 ? -1 : unlink(file->temporary);
}

/* The name is on disk, too. */
static int secret_sync_folder(const char *path)
{
        const char *slash = strrchr(path, '/');
        auto_free char *folder = slash ? mem_printf("%.*s", (int)(slash - path + 1), path) : mem_copy_text(".");
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

        if (fd < 0)
                return -1;
        rc = fsync(fd);
        close(fd);
        return rc;
}

int secret_file_write(struct secret_file *file, const char *secret, struct err *err)
{
        auto_secret char *line = mem_printf("%s\n", secret);

        if (secret_write_all(file->fd, line, strlen(line)) < 0 || secret_give_name(file) < 0)
                return secret_refuse(file->path, errno, err);
        free(TAKE_PTR(file->temporary));
        return secret_sync_folder(file->path) < 0 ? secret_refuse(file->path, errno, err) : 0;
}

void secret_file_close(struct secret_file *file)
{
        if (file->temporary != NULL)
                unlink(file->temporary);
        free(TAKE_PTR(file->temporary));
        if (file->fd >= 0)
                close(file->fd);
        file->fd = -1;
}

bool secret_file_has(const char *path, const char *secret)
{
        struct buf text = { 0 };
        size_t length;
        bool same;

        if (file_read(path, SECRET_BYTES, &text, NULL) < 0) {
                buf_free(&text);
                return false;
        }
        length = text.length;
        while (length > 0 && strchr(" \t\r\n", text.data[length - 1]) != NULL)
                length--;
        same = length == strlen(secret) && memcmp(text.data, secret, length) == 0;
        explicit_bzero(text.data, text.length);
        buf_free(&text);
        return same;
}
