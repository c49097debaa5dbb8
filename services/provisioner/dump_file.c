/* The file of one dump: see dump_file.h. */
#include "services/provisioner/dump_file.h"

#include "common/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARTIAL ".partial"

struct dump_file {
        const char *directory;
        char *folder, *saga, *path, *partial;
        struct sealed_writer *writer;
        struct sealed_reader *reader;
};

struct dump_file *dump_file_new(const char *directory, const char *tenant, const char *saga, const char *fence,
                                const char *kind, const struct keyring *ring)
{
        struct dump_file *file = NEW(struct dump_file);

        file->directory = directory;
        file->saga = mem_copy_text(saga);
        file->folder = mem_printf("%s/%s", directory, tenant);
        file->path = mem_printf("%s/%s-%s.%s", file->folder, saga, fence, kind);
        file->partial = mem_printf("%s" PARTIAL, file->path);
        file->writer = sealed_writer_new(ring, tenant);
        return file;
}

const char *dump_file_path(const struct dump_file *file)
{
        return file->path;
}

/* Removes files of dead attempts. One that is merely late then writes to an unlinked file, and finds that it cannot
 * rename it. */
static void dump_file_remove_leftovers(const struct dump_file *file)
{
        DIR *directory = opendir(file->folder);
        struct dirent *entry;

        while (directory != NULL && (entry = readdir(directory)) != NULL) {
                size_t length = strlen(entry->d_name);

                if (strncmp(entry->d_name, file->saga, strlen(file->saga)) == 0 && length > strlen(PARTIAL) &&
                    strcmp(entry->d_name + length - strlen(PARTIAL), PARTIAL) == 0)
                        unlinkat(dirfd(directory), entry->d_name, 0);
        }
        if (directory != NULL)
                closedir(directory);
}

int dump_file_create(struct dump_file *file, struct err *err)
{
        if (mkdir(file->folder, 0700) < 0 && errno != EEXIST)
                return err_set(err, ERR_BUSY, "archive_disk", "cannot create a folder in ARCHIVE_DIRECTORY: %s",
                               strerror(errno));
        dump_file_remove_leftovers(file);
        return sealed_writer_open(file->writer, file->partial, err);
}

int dump_file_add(struct dump_file *file, const void *bytes, size_t length, struct err *err)
{
        return sealed_writer_add(file->writer, bytes, length, err);
}

int dump_file_complete(struct dump_file *file, struct err *err)
{
        int rc = sealed_writer_finish(TAKE_PTR(file->writer), err);

        return rc < 0 ? rc : sealed_reader_open(file->partial, &file->reader, err);
}

int dump_file_unlock(struct dump_file *file, const struct keyring *ring, struct err *err)
{
        return sealed_reader_unlock(file->reader, ring, err);
}

ssize_t dump_file_next(struct dump_file *file, const unsigned char **ret, struct err *err)
{
        return sealed_reader_next(file->reader, ret, err);
}

char *dump_file_checksum(struct dump_file *file, int64_t *ret_bytes)
{
        *ret_bytes = sealed_reader_bytes(file->reader);
        return sealed_reader_checksum(file->reader);
}

static bool dump_file_make_durable(const char *folder)
{
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool durable = fd >= 0 && fsync(fd) == 0;

        if (fd >= 0)
                close(fd);
        return durable;
}

int dump_file_name(struct dump_file *file, struct err *err)
{
        sealed_reader_free(TAKE_PTR(file->reader));
        if (rename(file->partial, file->path) < 0 || !dump_file_make_durable(file->folder) ||
            !dump_file_make_durable(file->directory))
                return err_set(err, ERR_BUSY, "archive_disk", "cannot name the archive: %s", strerror(errno));
        return 0;
}

void dump_file_remove(struct dump_file *file)
{
        sealed_writer_abandon(TAKE_PTR(file->writer));
        sealed_reader_free(TAKE_PTR(file->reader));
        unlink(file->partial);
        unlink(file->path);
}

void dump_file_free(struct dump_file *file)
{
        if (file == NULL)
                return;
        sealed_writer_abandon(file->writer);
        sealed_reader_free(file->reader);
        free(file->folder);
        free(file->saga);
        free(file->path);
        free(file->partial);
        free(file);
}
