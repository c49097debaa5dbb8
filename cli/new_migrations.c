/* Writes migration files: see new_migrations.h. */
#include "cli/new_migrations.h"

#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/migration.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define NAME_LIMIT     100
#define VERSION_DIGITS 14
#define VERSION_FORMAT "%Y%m%d%H%M%S"

/* A file on its way: it is complete under its draft's name before it gets its own. */
struct new_file {
        char *name, *draft; /* in the directory */
        struct buf text;
        bool drafted, linked;
};

struct new_files {
        const char *directory;
        int fd; /* of the directory */
        struct new_file *items;
        size_t count;
};

bool new_migrations_name_is_good(const char *name)
{
        static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

        return *name != '\0' && *name != '-' && *name != '_' && strlen(name) <= NAME_LIMIT &&
               strspn(name, good) == strlen(name);
}

/* The time that a file has for its version; -1 if it has none. */
static time_t new_version_time(const char *name)
{
        char again[VERSION_DIGITS + 2];
        struct tm tm = { 0 };
        time_t time;

        if (strspn(name, "0123456789") != VERSION_DIGITS || strptime(name, VERSION_FORMAT, &tm) == NULL)
                return -1;
        time = timegm(&tm); /* makes 31 June to 1 July */
        return strftime(again, sizeof(again), VERSION_FORMAT, &tm) == VERSION_DIGITS &&
                               strncmp(again, name, VERSION_DIGITS) == 0
                       ? time
                       : -1;
}

/* What is imported comes after what is there, also if that was imported a second ago in several files. */
static int new_first_time(const struct new_files *files, time_t *ret, struct err *err)
{
        int fd = openat(files->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        if (dir == NULL)
                return err_set(err, ERR_PERMANENT, "unreadable", "cannot read %s: %s", files->directory,
                               strerror(errno));
        *ret = time(NULL);
        while ((entry = readdir(dir)) != NULL) {
                size_t length = strlen(entry->d_name);

                if (length > 4 && strcmp(entry->d_name + length - 4, ".sql") == 0)
                        *ret = MAX(*ret, new_version_time(entry->d_name) + 1);
        }
        closedir(dir);
        return 0;
}

static int new_name_files(struct new_files *files, const char *name, struct err *err)
{
        time_t time;

        if (new_first_time(files, &time, err) < 0)
                return -ERR_PERMANENT;
        for (size_t i = 0; i < files->count; i++, time++) {
                struct new_file *file = &files->items[i];
                char version[VERSION_DIGITS + 2];
                struct tm tm;

                gmtime_r(&time, &tm);
                if (strftime(version, sizeof(version), VERSION_FORMAT, &tm) != VERSION_DIGITS)
                        return err_set(err, ERR_INPUT, "version_last",
                                       "no version is later than those of the files in %s", files->directory);
                file->name = files->count == 1 ? mem_printf("%s_%s.sql", version, name)
                                               : mem_printf("%s_%s_%zu.sql", version, name, i + 1);
                file->draft = mem_printf(".%s.%d.new", file->name, (int)getpid());
        }
        return 0;
}

static void new_add_section(struct buf *text, const char *directive, const char *sql, bool alone)
{
        buf_printf(text, "-- migrate:%s%s\n", directive, alone ? " transaction:false" : "");
        if (*sql != '\0')
                buf_printf(text, "%s\n", sql);
}

static int new_compose(struct new_file *file, const struct new_migration *migration, struct err *err)
{
        struct migration parsed = { 0 };
        int rc;

        new_add_section(&file->text, "up", migration->up, migration->up_alone);
        buf_add_text(&file->text, "\n");
        new_add_section(&file->text, "down", migration->down, migration->down_alone);
        rc = migration_parse(file->name, file->text.data, file->text.length, &parsed, err);
        if (rc == 0)
                migration_release(&parsed);
        return rc;
}

static int new_refuse(const struct new_files *files, const char *name, struct err *err)
{
        return err_set(err, ERR_PERMANENT, "unwritable", "cannot write %s/%s: %s", files->directory, name,
                       strerror(errno));
}

static bool new_write_all(int fd, const struct buf *text)
{
        size_t written = 0;

        while (written < text->length) {
                ssize_t n = write(fd, text->data + written, text->length - written);

                if (n < 0 && errno != EINTR)
                        return false;
                written += n > 0 ? (size_t)n : 0;
        }
        return fsync(fd) == 0;
}

static int new_draft(const struct new_files *files, struct new_file *file, struct err *err)
{
        int fd = openat(files->fd, file->draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        bool written;

        if (fd < 0)
                return new_refuse(files, file->name, err);
        file->drafted = true;
        written = new_write_all(fd, &file->text);
        if (!written)
                new_refuse(files, file->name, err);
        if (close(fd) < 0 && written)
                return new_refuse(files, file->name, err);
        return written ? 0 : -ERR_PERMANENT;
}

/* Unlike rename, neither replaces a file that came there meanwhile; not every file system has links. */
static int new_link(const struct new_files *files, struct new_file *file, struct err *err)
{
        if (linkat(files->fd, file->draft, files->fd, file->name, 0) < 0 &&
            (errno == EEXIST || renameat2(files->fd, file->draft, files->fd, file->name, RENAME_NOREPLACE) < 0))
                return new_refuse(files, file->name, err);
        file->linked = true;
        return 0;
}

static int new_write_files(const struct new_files *files, struct err *err)
{
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < files->count; i++)
                rc = new_draft(files, &files->items[i], err);
        for (size_t i = 0; rc == 0 && i < files->count; i++)
                rc = new_link(files, &files->items[i], err);
        if (rc == 0 && fsync(files->fd) < 0)
                rc = new_refuse(files, "", err);
        for (size_t i = 0; i < files->count; i++) {
                if (files->items[i].drafted)
                        unlinkat(files->fd, files->items[i].draft, 0);
                if (rc < 0 && files->items[i].linked)
                        unlinkat(files->fd, files->items[i].name, 0);
        }
        return rc;
}

static char **new_paths(const struct new_files *files)
{
        char **paths = mem_alloc(files->count, sizeof(paths[0]));

        for (size_t i = 0; i < files->count; i++)
                paths[i] = mem_printf("%s/%s", files->directory, files->items[i].name);
        return paths;
}

/* Until the directory is closed: two that write at the same time would choose the same versions. Some network file
 * systems cannot lock a directory; even there nothing is overwritten. */
static int new_lock(const struct new_files *files, struct err *err)
{
        while (flock(files->fd, LOCK_EX) < 0) {
                if (errno == EBADF || errno == ENOLCK || errno == EOPNOTSUPP)
                        return 0;
                if (errno != EINTR)
                        return err_set(err, ERR_PERMANENT, "unlockable", "cannot lock the directory %s: %s",
                                       files->directory, strerror(errno));
        }
        return 0;
}

int new_migrations_write(const char *directory, const char *name, const struct new_migration *migrations, size_t count,
                         char ***ret_paths, struct err *err)
{
        struct new_files files = { .directory = directory, .count = count };
        int rc;

        files.fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (files.fd < 0)
                return err_set(err, ERR_PERMANENT, "unreadable", "cannot open the directory %s: %s", directory,
                               strerror(errno));
        files.items = mem_alloc(count, sizeof(files.items[0]));
        rc = new_lock(&files, err);
        if (rc == 0)
                rc = new_name_files(&files, name, err);
        for (size_t i = 0; rc == 0 && i < count; i++)
                rc = new_compose(&files.items[i], &migrations[i], err);
        if (rc == 0)
                rc = new_write_files(&files, err);
        if (rc == 0)
                *ret_paths = new_paths(&files);
        for (size_t i = 0; i < count; i++) {
                free(files.items[i].name);
                free(files.items[i].draft);
                buf_free(&files.items[i].text);
        }
        free(files.items);
        close(files.fd);
        return rc;
}
