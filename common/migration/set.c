/* A set of migration files: see migration.h. */
#include "common/base/memory.h"
#include "common/migration/migration.h"

#include <string.h>

#define SET_LIMIT 10000

int migration_set_add(struct migration_set *set, const char *name, const char *bytes, size_t length, const char *verify,
                      struct err *err)
{
        struct migration *added;
        int rc;

        if (set->count == SET_LIMIT)
                return err_set(err, ERR_INPUT, "too_many_migrations", "there are more than %d migrations", SET_LIMIT);
        set->items = mem_resize(set->items, (set->count + 1) * sizeof(set->items[0]));
        added = &set->items[set->count];
        rc = migration_parse(name, bytes, length, added, err);
        if (rc < 0)
                return rc;
        if (verify != NULL)
                added->verify = mem_printf("%.*s", (int)migration_verify_length(verify), verify);
        set->count++;
        return 0;
}

/* Like dbmate: by name, byte for byte. "10_b" comes before "1_a". */
static int set_by_name(const void *a, const void *b)
{
        const struct migration *one = a, *other = b;

        return strcmp(one->name, other->name);
}

static int set_refuse_twins(const struct migration_set *set, struct err *err)
{
        for (size_t i = 0; i < set->count; i++)
                for (size_t k = i + 1; k < set->count; k++)
                        if (strcmp(set->items[i].version, set->items[k].version) == 0)
                                return err_set(err, ERR_INPUT, "version_twice", "%s and %s have the same version",
                                               set->items[i].name, set->items[k].name);
        return 0;
}

int migration_set_sort(struct migration_set *set, struct err *err)
{
        if (set->count > 0)
                qsort(set->items, set->count, sizeof(set->items[0]), set_by_name);
        return set_refuse_twins(set, err);
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
