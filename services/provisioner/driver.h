/* What differs between the places a tenant's database can live. Each function is a step, or the part of one: it finds
 * out first what is already done, and may run twice. */
#pragma once

#include "common/durable/saga.h"
#include "common/pg/pg.h"

struct activity;
struct provisioner;

struct driver {
        const char *name;
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
        /* Looks for what was made before and sets its logins as the catalog knows them; activity_lost where it is gone.
         * NULL = the provider does not lose anything. */
        enum step_result (*find_again)(struct saga *saga);
        /* Deletes database or project after proof that it is this tenant's. */
        enum step_result (*drop)(struct saga *saga);
        /* Makes the link a person is sent to after clicking ours, and learns it with link_made. */
        enum step_result (*make_link)(struct saga *saga);
        /* What the catalog knows of was missing, or a stored password was refused (err, borrowed): sets right what may
         * be, and the step begins again; else saga_retry with err. A few times in a saga. NULL where nothing can be. */
        enum step_result (*mend)(struct saga *saga, const struct err *err);
        /* Shows all that the provider has of ours, place by place: shown gets a server's name (or "") and a list of
         * {name, tenant_id?, generation?, cost?, open?, status?}, which it takes; or an error. open: the app can log
         * in; status: the provider's word, where it is not a healthy one. */
        void (*take_inventory)(struct provisioner *provisioner,
                               void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                               void *context);
        /* Where to connect. as_admin: with rights over the whole server. Returns 0 and fills *target, whose texts live
         * in *ret_keep (wiped and freed by the caller). */
        int (*target)(struct activity *activity, bool as_admin, struct pg_target *target, char **ret_keep,
                      struct err *err);
};

extern const struct driver POSTGRES_DRIVER, SUPABASE_DRIVER;

/* NULL for an unknown name. */
const struct driver *driver_find(const char *name);
