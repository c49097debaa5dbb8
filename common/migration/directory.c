/* Migration files on disk: see migration.h. */
#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/migration/migration.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int directory_read_file(const char *path, struct buf *text, struct err *err)
{
        struct err why;

        if (file_read(path, MIGRATION_FILE_LIMIT, text, &why) == 0)
                return 0;
        return err_set(err, ERR_INPUT, "migration_unreadable", "%s", why.message);
}

/* The content of NAME.verify beside NAME.sql; empty if there is none. */
static int directory_read_verify(const char *directory, const char *name, struct buf *text, struct err *err)
{
        auto_free char *path = mem_printf("%s/%.*s.verify", directory, (int)strlen(name) - 4, name);
        struct stat status;

        if (lstat(path, &status) < 0 && errno == ENOENT) /* a link to nowhere is there, and cannot be read */
                return 0;
        if (directory_read_file(path, text, err) < 0)
                return -ERR_INPUT;
        if (strlen(text->data) == text->length && migration_verify_length(text->data) == 0)
                return err_field(err, path, "%s must be one query that returns true", path);
        if (strlen(text->data) == text->length && text->length <= MIGRATION_VERIFY_LIMIT)
                return 0;
        return err_field(err, path, "%s has a NUL byte, or more than %d bytes", path, MIGRATION_VERIFY_LIMIT);
}

static int directory_add_file(struct migration_set *set, const char *directory, const char *name, struct err *err)
{
        auto_free char *path = mem_printf("%s/%s", directory, name);
        auto_buf text = { 0 }, verify = { 0 };
        int rc = directory_read_file(path, &text, err);

        if (rc == 0)
                rc = directory_read_verify(directory, name, &verify, err);
        return rc == 0 ? migration_set_add(set, name, text.data, text.length, verify.data, err) : rc;
}

static int directory_add_all(struct migration_set *set, const char *directory, struct err *err)
{
        struct dirent *entry;
        DIR *dir = opendir(directory);
        int rc = 0;

        if (dir == NULL)
                return err_set(err, ERR_INPUT, "migrations_unreadable", "cannot read the migrations in %s: %s",
                               directory, strerror(errno));
        while (rc == 0 && (entry = readdir(dir)) != NULL) {
                size_t length = strlen(entry->d_name);

                if (length > 4 && strcmp(entry->d_name + length - 4, ".sql") == 0)
                        rc = directory_add_file(set, directory, entry->d_name, err);
        }
        closedir(dir);
        return rc;
}

static int directory_add_one(struct migration_set *set, const char *path, struct err *err)
{
        const char *slash = strrchr(path, '/');
        auto_free char *directory = slash ? mem_printf("%.*s", (int)MAX(1, slash - path), path) : mem_copy_text(".");

        return directory_add_file(set, directory, slash ? slash + 1 : path, err);
}

int migration_set_load(const char *path, struct migration_set **ret, struct err *err)
{
        struct migration_set *set = NEW(struct migration_set);
        struct stat status;
        int rc;

        if (stat(path, &status) == 0 && !S_ISDIR(status.st_mode))
                rc = directory_add_one(set, path, err);
        else
                rc = directory_add_all(set, path, err);
        if (rc == 0)
                rc = migration_set_sort(set, err);
        if (rc < 0)
                migration_set_free(set);
        else
                *ret = set;
        return rc;
}
