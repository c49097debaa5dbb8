/* A directory of migration files: see migration.h. */
#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/migration.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SET_LIMIT  10000
#define READ_LIMIT (4 * 1024 * 1024 + 1)

static int directory_read_file(const char *path, struct buf *text, struct err *err)
{
        FILE *in = fopen(path, "re");
        char chunk[8192];
        size_t n;
        int rc = 0;

        if (in == NULL)
                return err_set(err, ERR_INPUT, "migration_unreadable", "cannot read %s: %s", path, strerror(errno));
        buf_add(text, "", 0);
        while (text->length < READ_LIMIT && (n = fread(chunk, 1, sizeof(chunk), in)) > 0)
                buf_add(text, chunk, n);
        if (ferror(in)) /* a folder, for instance: it can be opened */
                rc = err_set(err, ERR_INPUT, "migration_unreadable", "cannot read %s: %s", path, strerror(errno));
        fclose(in);
        return rc;
}

int migration_load(const char *path, struct migration *ret, struct err *err)
{
        const char *slash = strrchr(path, '/');
        auto_buf text = { 0 };
        int rc = directory_read_file(path, &text, err);

        return rc < 0 ? rc : migration_parse(slash ? slash + 1 : path, text.data, text.length, ret, err);
}

static int directory_add_file(struct migration_set *set, const char *directory, const char *name, struct err *err)
{
        auto_free char *path = mem_printf("%s/%s", directory, name);
        int rc;

        if (set->count == SET_LIMIT)
                return err_set(err, ERR_INPUT, "too_many_migrations", "%s has more than %d migrations", directory,
                               SET_LIMIT);
        set->items = mem_resize(set->items, (set->count + 1) * sizeof(set->items[0]));
        rc = migration_load(path, &set->items[set->count], err);
        if (rc == 0)
                set->count++;
        return rc;
}

/* Like dbmate: by name, byte for byte. "10_b" comes before "1_a". */
static int directory_by_name(const void *a, const void *b)
{
        const struct migration *one = a, *other = b;

        return strcmp(one->name, other->name);
}

static int directory_refuse_twins(const struct migration_set *set, struct err *err)
{
        for (size_t i = 0; i < set->count; i++)
                for (size_t k = i + 1; k < set->count; k++)
                        if (strcmp(set->items[i].version, set->items[k].version) == 0)
                                return err_set(err, ERR_INPUT, "version_twice", "%s and %s have the same version",
                                               set->items[i].name, set->items[k].name);
        return 0;
}

int migration_set_load(const char *directory, struct migration_set **ret, struct err *err)
{
        struct migration_set *set;
        struct dirent *entry;
        DIR *dir = opendir(directory);
        int rc = 0;

        if (dir == NULL)
                return err_set(err, ERR_INPUT, "migrations_unreadable", "cannot read the migrations in %s: %s",
                               directory, strerror(errno));
        set = NEW(struct migration_set);
        while (rc == 0 && (entry = readdir(dir)) != NULL) {
                size_t length = strlen(entry->d_name);

                if (length > 4 && strcmp(entry->d_name + length - 4, ".sql") == 0)
                        rc = directory_add_file(set, directory, entry->d_name, err);
        }
        closedir(dir);
        if (rc == 0 && set->count > 0)
                qsort(set->items, set->count, sizeof(set->items[0]), directory_by_name);
        if (rc == 0)
                rc = directory_refuse_twins(set, err);
        if (rc < 0)
                migration_set_free(set);
        else
                *ret = set;
        return rc;
}

void migration_set_free(struct migration_set *set)
{
        if (set == NULL)
                return;
        for (size_t i = 0; i < set->count; i++)
                migration_release(&set->items[i]);
        free(set->items);
        free(set);
}
