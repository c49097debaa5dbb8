/* The registered migration files: see registry.h. */
#include "common/migration/registry.h"

#include "common/base/memory.h"

#include <string.h>

struct registry {
        struct registered *now;
};

struct registry *registry_new(void)
{
        return NEW(struct registry);
}

void registered_release(struct registered *files)
{
        if (files == NULL || --files->users > 0)
                return;
        migration_set_free(files->set);
        free(files->state);
        free(files);
}

void registry_free(struct registry *registry)
{
        if (registry == NULL)
                return;
        registered_release(registry->now);
        free(registry);
}

const char *registry_state(const struct registry *registry)
{
        return registry->now ? registry->now->state : NULL;
}

struct registered *registry_files(struct registry *registry)
{
        if (registry->now != NULL)
                registry->now->users++;
        return registry->now;
}

static int registry_read_files(const char *text, struct migration_set *set, struct err *err)
{
        auto_json *files = NULL;
        json_t *file;
        size_t i;

        if (json_parse(text, strlen(text), &files, err) < 0)
                return -ERR_INPUT;
        json_array_foreach (files, i, file) {
                const char *sql = json_text(file, "sql");

                if (migration_set_add(set, json_text(file, "name"), sql, strlen(sql), json_text(file, "verify"), err) <
                    0)
                        return -ERR_INPUT;
        }
        return migration_set_sort(set, err);
}

bool *registered_mask(const struct registered *files, const json_t *versions)
{
        bool *mask = mem_alloc(files->set->count + 1, sizeof(mask[0]));
        auto_json *listed = json_object();
        json_t *version;
        size_t i;

        json_array_foreach (versions, i, version)
                json_object_set_new(listed, json_string_value(version), json_true());
        for (i = 0; i < files->set->count; i++)
                mask[i] = json_object_get(listed, files->set->items[i].version) != NULL;
        return mask;
}

json_t *migration_versions(const struct migration_set *set, const bool *mask)
{
        json_t *versions = json_array();

        for (size_t i = 0; i < set->count; i++)
                if (mask[i])
                        json_array_append_new(versions, json_string(set->items[i].version));
        return versions;
}

static int registry_replace(struct registry *registry, const struct pg_rows *rows, struct err *err)
{
        struct registered *files = NEW(struct registered);
        struct err bad;

        files->users = 1;
        files->set = NEW(struct migration_set);
        files->state = mem_copy_text(pg_text(rows, 0, "state"));
        if (registry_read_files(pg_text(rows, 0, "files"), files->set, &bad) < 0) {
                registered_release(files);
                return err_set(err, ERR_OURS, "register_unreadable",
                               "a registered migration cannot be read by this version: %.300s", bad.message);
        }
        registered_release(registry->now);
        registry->now = files;
        return 0;
}

int registry_learn(struct registry *registry, const struct pg_rows *rows, struct registered **ret, bool **ret_wanted,
                   struct err *err)
{
        const char *text = pg_text(rows, 0, "wanted");
        auto_json *wanted = NULL;

        if (pg_text(rows, 0, "files") != NULL && registry_replace(registry, rows, err) < 0)
                return -ERR_OURS;
        *ret_wanted = NULL;
        if (text != NULL && json_parse(text, strlen(text), &wanted, err) < 0)
                return err_set(err, ERR_OURS, "register_unreadable", "the catalog's list of versions is unreadable");
        if (text != NULL)
                *ret_wanted = registered_mask(registry->now, wanted);
        *ret = registry_files(registry);
        return 0;
}
