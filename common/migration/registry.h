/* The migration files that are registered in the catalog: whoever applies files takes them from there, so that all
 * apply the same bytes, whatever their images hold. */
#pragma once

#include "common/base/json.h"
#include "common/migration/migration.h"
#include "common/pg/pg.h"

/* The files at one moment. Shared by all who work with them. */
struct registered {
        struct migration_set *set;
        char *state; /* names this moment */
        unsigned users;
};

struct registry;

/* The question for the catalog; $1 is registry_state. */
#define REGISTRY_QUERY "select state, files, wanted from catalog.migration_register($1)"

struct registry *registry_new(void);
/* NULL is fine. */
void registry_free(struct registry *registry);
/* What this process has already; NULL = nothing. Borrowed. */
const char *registry_state(const struct registry *registry);
/* rows: of REGISTRY_QUERY. Returns 0 and *ret, which the caller gives back with registered_release, and in *ret_wanted
 * a mask of the files that a tenant without any gets, which the caller frees (NULL: the register is not complete yet);
 * or -ERR_OURS (register_unreadable) for what a newer program has registered and this one cannot read. */
int registry_learn(struct registry *registry, const struct pg_rows *rows, struct registered **ret, bool **ret_wanted,
                   struct err *err);
/* The files as last learned, given back like those of registry_learn; NULL before that. */
struct registered *registry_files(struct registry *registry);
/* NULL is fine. */
void registered_release(struct registered *files);
/* A mask of the set for migration_options.wanted: these versions. The caller frees. */
bool *registered_mask(const struct registered *files, const json_t *versions);
/* The versions of the set for which the mask is true; the caller releases. */
json_t *migration_versions(const struct migration_set *set, const bool *mask);
