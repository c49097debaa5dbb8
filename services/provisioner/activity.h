/* Shared by the steps of one saga on one tenant: the tenant's facts, its decrypted secrets, a connection. */
#pragma once

#include "common/migration/apply.h"
#include "common/net/http_client.h"
#include "services/provisioner/driver.h"
#include "services/provisioner/provisioner.h"

#define ACTIVITY_MAGIC 0x61637469

struct activity {
        unsigned magic;
        struct saga *saga;
        struct provisioner *provisioner;
        const struct driver *driver;
        json_t *facts;        /* provisioner.saga_context, as last read */
        struct pg_conn *conn; /* to the tenant's database, or NULL */
        bool conn_is_admin;
        bool mending;   /* the driver is restoring what was missing; then the step starts again */
        bool elsewhere; /* connected to something the catalog does not know: nothing there is repaired */
        enum step_result (*if_gone)(struct saga *saga);   /* continues if there is no database to connect to; or NULL */
        enum step_result (*if_paused)(struct saga *saga); /* continues if the provider lets nobody connect; or NULL */
        struct registered *files;                         /* or NULL */
        const struct migration_set *migrations;           /* those of files, or of TENANT_MIGRATIONS */
        bool *wanted;                                     /* of these; NULL = all */
        json_t *brought;                                  /* version -> the run that the tenant had it from */
        const char **runs;                                /* the same for each of these files; NULL = not known */
        struct migration_job *migration;
        json_t *schema;   /* what the migrations came to, for the catalog */
        size_t looked_at; /* servers searched for an earlier database of the tenant */
        void *work; /* work under way outside (a call, a dump), or NULL; abandon ends it when the saga is dropped */
        void (*abandon)(void *work);
        void (*interrupt)(void *work); /* aborts it, as a failure; NULL = it ends soon by itself */
        int reply_status;              /* of the last HTTP call */
        json_t *reply;
        int64_t reply_retry_after;
        bool reply_from_auth;                           /* the project's own Auth answered, not the provider */
        struct err failed;                              /* what the step reports once this is known */
        enum step_result (*then)(struct saga *saga);    /* continuation of the call under way */
        enum step_result (*dropped)(struct saga *saga); /* continuation once all of several databases are dropped */
        struct {
                char *login; /* the login being closed out, or NULL for all of the product's */
                int looks;
                bool expect_open;
                enum step_result (*next)(struct saga *saga);
        } door; /* of postgres_door.c */
};

/* Checks the magic. */
struct activity *activity_of(struct saga *saga);

/* For the saga kinds' open, close and interrupt. */
int activity_open(struct saga *saga, const json_t *context, void **ret_state, struct err *err);
void activity_close(void *state);
bool activity_interrupt(void *state);

/* Gives back the registered files. */
void activity_forget_files(struct activity *activity);

/* Outside work begins, and has ended: its owner frees it. */
void activity_begin_work(struct activity *activity, void *work, void (*abandon)(void *work));
void *activity_end_work(struct activity *activity);

/* Facts by name; texts are borrowed until they are read again. NULL and 0 for null. */
const char *activity_tenant(const struct activity *activity, const char *name);
const char *activity_database(const struct activity *activity, const char *name);
/* Whether it has a database according to the catalog: an archived tenant has none, nor has one whose provisioning was
 * undone. */
bool activity_is_live(const struct activity *activity);
int64_t activity_number(const struct activity *activity, const char *name);
int activity_generation(const struct activity *activity);

/* Opens a stored secret. Returns 0 and *ret (mem_free_secret), or why not. */
int activity_secret(const struct activity *activity, const char *field, int generation, char **ret, struct err *err);
/* {field, generation, ring, sealed} for provisioner.learn and reserve. ring: "control" or "app". */
json_t *activity_seal(const struct activity *activity, const char *field, int generation, const char *ring,
                      const char *plain);

/* Stores facts (taking ownership; see provisioner.learn) under the saga's fence, reads the tenant again, and completes
 * the step. */
enum step_result activity_learn(struct saga *saga, json_t *facts);
/* STEP_DONE, as a continuation. */
enum step_result activity_done(struct saga *saga);
/* The same, then continues with next. */
enum step_result activity_learn_then(struct saga *saga, json_t *facts, enum step_result (*next)(struct saga *saga));

/* The same through another catalog function, which takes saga, fence, tenant and facts and returns the tenant. */
enum step_result activity_store(struct saga *saga, const char *sql, json_t *facts,
                                enum step_result (*next)(struct saga *saga));

/* Replaces a stored secret by this one (taking ownership; see activity_seal), as activity_learn_then does with facts.
 * For secrets that another system gave us and has changed since. */
enum step_result activity_renew_secret(struct saga *saga, json_t *secret, enum step_result (*next)(struct saga *saga));

/* Connects to the tenant's database as its owner (or as the server's admin, postgres driver only), unless already
 * connected; checks the identity marker unless the database is not marked yet; then continues. */
enum step_result activity_connect(struct saga *saga, bool as_admin, bool unmarked,
                                  enum step_result (*next)(struct saga *saga));
void activity_disconnect(struct activity *activity);
/* For find_again: the step is retried, with the error of the failed connection. */
enum step_result activity_unreachable(struct saga *saga);
/* For find_again: the address has changed; the step starts again with it. */
enum step_result activity_found_again(struct saga *saga);
/* saga_retry after a statement on that connection failed: it may be in a transaction, and is not used again. */
/* saga_retry after one of our statements on that connection, or on the server, failed: the connection may be in a
 * transaction, and is not used again. If the error shows that something known to the catalog is missing, the driver
 * looks for it first. */
enum step_result activity_retry(struct saga *saga, const struct err *err);
/* The database is gone, and somebody may have used it: the saga fails, and says what a person can do (or if_gone
 * continues). */
enum step_result activity_lost(struct saga *saga);
/* Whether what this saga has made can be made again if it is gone, because it was never handed over. */
bool activity_may_make_again(const struct activity *activity);
