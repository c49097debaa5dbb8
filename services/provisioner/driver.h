/* What differs between the places where a tenant's database can live. Each function is a step, or part of one: it first
 * finds out what is already done, and may run twice. */
#pragma once

#include "common/durable/saga.h"
#include "common/pg/pg.h"

struct activity;
struct provisioner;

/* Restoring a backup, in the order of restore.c. A copy belongs to the restore until it replaces the tenant's
 * database. */
struct restore_driver {
        /* Creates an empty database for this attempt, beside the tenant's, with the tenant's logins; those of earlier
         * attempts are dropped. Stores its name in the saga's data as "copy", then continues with next. */
        enum step_result (*make_copy)(struct saga *saga, enum step_result (*next)(struct saga *saga));
        /* The copy is proved: gives it its final name. */
        enum step_result (*name_copy)(struct saga *saga);
        /* Stops all writes to the tenant's database, if there is one. */
        enum step_result (*close)(struct saga *saga);
        /* In one transaction the copy replaces the tenant's database, which is kept under another name; and the
         * reverse. */
        enum step_result (*swap)(struct saga *saga);
        enum step_result (*swap_back)(struct saga *saga);
        /* Drops what the restore no longer needs. all: everything it has made that does not serve as the tenant's
         * database. */
        enum step_result (*drop_copies)(struct saga *saga, bool all);
};

struct driver {
        const char *name;
        const struct restore_driver *restore; /* NULL if we cannot restore a backup */
        bool dumps_as_admin; /* as the admin, whom no tenant can keep from reading; otherwise as its owner */
        /* Looks up the reserved name; adopts what exists, creates what does not. */
        enum step_result (*create)(struct saga *saga);
        /* Waits until it can be used. */
        enum step_result (*await_ready)(struct saga *saga);
        /* Learns host, port, database and owner login. */
        enum step_result (*read_connection)(struct saga *saga);
        /* After identity and before migrations: grants the app login its rights in the database. */
        enum step_result (*prepare)(struct saga *saga);
        /* The first administrator of the product, by its preset id. */
        enum step_result (*create_admin)(struct saga *saga);
        /* Brings the applied access to what is wanted, and reads it back. */
        enum step_result (*apply_access)(struct saga *saga);
        /* Rotation: the next login works alongside the old one; then the old one is closed. */
        enum step_result (*set_next_login)(struct saga *saga);
        enum step_result (*end_old_login)(struct saga *saga);
        /* On a connection that may dump: makes everything readable for it, even where the tenant could prevent that,
         * then continues. NULL if there is nothing to do. */
        enum step_result (*prepare_dump)(struct saga *saga, enum step_result (*next)(struct saga *saga));
        /* Looks for what was made before and sets its logins as the catalog has them; activity_lost if it is gone. NULL
         * = the provider does not lose anything. */
        enum step_result (*look_again)(struct saga *saga);
        /* Deletes database or project after proof that it is this tenant's. */
        enum step_result (*drop)(struct saga *saga);
        /* Creates the link a person is sent to after clicking ours, and stores it with link_made. */
        enum step_result (*make_link)(struct saga *saga);
        /* The stored owner password was refused: resets it at the provider. NULL if that is not possible. */
        enum step_result (*recover_login)(struct saga *saga);
        /* The database cannot be reached: asks the provider whether it has moved (then the step starts again) or cannot
         * be reached at all (then the activity's if_gone or if_paused continues). Otherwise ends with
         * activity_unreachable. NULL if there is nobody to ask. */
        enum step_result (*find_again)(struct saga *saga);
        /* Something the catalog knows was missing, or a stored password was refused (err, borrowed): repairs what may
         * be repaired, and the step starts again; otherwise saga_retry with err. A few times per saga. NULL if nothing
         * can be repaired. */
        enum step_result (*mend)(struct saga *saga, const struct err *err);
        /* Lists everything of ours at the provider, server by server: shown gets a server's name (or "") and a list of
         * {name, tenant_id?, generation?, cost?, open?, status?}, which it owns; or an error. open: the app can log in;
         * status: the provider's term, if it is not a healthy one. */
        void (*take_inventory)(struct provisioner *provisioner,
                               void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                               void *context);
};

extern const struct driver POSTGRES_DRIVER, SUPABASE_DRIVER;

/* NULL for an unknown name. */
const struct driver *driver_find(const char *name);
