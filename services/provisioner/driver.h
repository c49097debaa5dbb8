/* What differs between the places a tenant's database can live. Each function is a step, or the part of one: it finds
 * out first what is already done, and may run twice. */
#pragma once

#include "common/durable/saga.h"
#include "common/pg/pg.h"

struct activity;
struct provisioner;

/* Bringing a backup back, in the order of restore.c. A copy is the restore's own until it is put in the place of the
 * tenant's database. */
struct restore_driver {
        /* An empty database of this attempt's own, beside the tenant's, with the tenant's logins; those of earlier
         * attempts are dropped. Leaves its name in the saga's data as "copy", then goes on with next. */
        enum step_result (*make_copy)(struct saga *saga, enum step_result (*next)(struct saga *saga));
        /* It is proved: gives it the name that counts. */
        enum step_result (*name_copy)(struct saga *saga);
        /* Nobody writes into the tenant's database any more, if there is one. */
        enum step_result (*close)(struct saga *saga);
        /* In one transaction the copy takes the place of the tenant's database, which is kept under another name; and
         * back. */
        enum step_result (*swap)(struct saga *saga);
        enum step_result (*swap_back)(struct saga *saga);
        /* What the restore in hand does not need any more. all: whatever it has made, and is not in its place. */
        enum step_result (*drop_copies)(struct saga *saga, bool all);
};

struct driver {
        const char *name;
        const struct restore_driver *restore; /* NULL where we cannot bring a backup back */
        bool dumps_as_admin;                  /* whom no tenant can keep from reading its database; else as its owner */
        /* Looks the reserved name up; adopts what is there, creates what is not. */
        enum step_result (*create)(struct saga *saga);
        /* Waits until it can be used. */
        enum step_result (*await_ready)(struct saga *saga);
        /* Learns host, port, database and owner login. */
        enum step_result (*read_connection)(struct saga *saga);
        /* After identity and before migrations: rights that the app login gets in the database. */
        enum step_result (*prepare)(struct saga *saga);
        /* The first administrator of the product, by its preset id. */
        enum step_result (*create_admin)(struct saga *saga);
        /* Brings applied access to what is wanted, and reads back. */
        enum step_result (*apply_access)(struct saga *saga);
        /* Rotation: the login of the next generation works beside the old one; then the old one ends. */
        enum step_result (*set_next_login)(struct saga *saga);
        enum step_result (*end_old_login)(struct saga *saga);
        /* On a connection that may dump: makes everything readable for it, where the tenant could say no, then goes on.
         * NULL where nothing is to be done. */
        enum step_result (*prepare_dump)(struct saga *saga, enum step_result (*next)(struct saga *saga));
        /* Looks for what was made before and sets its logins as the catalog knows them; activity_lost where it is gone.
         * NULL = the provider does not lose anything. */
        enum step_result (*look_again)(struct saga *saga);
        /* Deletes database or project after proof that it is this tenant's. */
        enum step_result (*drop)(struct saga *saga);
        /* Makes the link a person is sent to after clicking ours, and learns it with link_made. */
        enum step_result (*make_link)(struct saga *saga);
        /* The stored owner password was refused: sets it anew at the provider. NULL where that cannot be. */
        enum step_result (*recover_login)(struct saga *saga);
        /* The database cannot be reached: asks the provider whether it is somewhere else by now (then the step begins
         * anew) or cannot be reached at all (then activity's if_gone or if_paused goes on). Else ends with
         * activity_unreachable. NULL where nobody can be asked. */
        enum step_result (*find_again)(struct saga *saga);
        /* What the catalog knows of was missing, or a stored password was refused (err, borrowed): sets right what may
         * be, and the step begins again; else saga_retry with err. A few times in a saga. NULL where nothing can be. */
        enum step_result (*mend)(struct saga *saga, const struct err *err);
        /* Shows all that the provider has of ours, place by place: shown gets a server's name (or "") and a list of
         * {name, tenant_id?, generation?, cost?, open?, status?}, which it takes; or an error. open: the app can log
         * in; status: the provider's word, where it is not a healthy one. */
        void (*take_inventory)(struct provisioner *provisioner,
                               void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                               void *context);
};

extern const struct driver POSTGRES_DRIVER, SUPABASE_DRIVER;

/* NULL for an unknown name. */
const struct driver *driver_find(const char *name);
