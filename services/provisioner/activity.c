/* Shared by the steps of one saga: see activity.h. */
#include "services/provisioner/activity.h"

#include "common/base/memory.h"
#include "common/migration/registry.h"
#include "common/tenant/identity.h"

#include <string.h>

#define CONNECT_TIMEOUT SECONDS(8)
#define PROOF_TIMEOUT   SECONDS(8)
#define LOGIN_DELAY     SECONDS(30) /* too many wrong passwords get our address banned */
#define MENDS_MOST      5

/* After a catalog fell back in time, a worker may have the fence of a step that is still to be done there. */
static const char SQL_LEARN[] = "select learn($1::uuid, $2::bigint, $3::uuid, $4::jsonb) as facts "
                                "from saga_at($1::uuid, $2::bigint, $5)";

static const char SQL_RENEW[] = "select renew_secret($1::uuid, $2::bigint, $3::uuid, $4::jsonb) as facts "
                                "from saga_at($1::uuid, $2::bigint, $5)";

struct activity *activity_of(struct saga *saga)
{
        struct activity *activity = saga_state(saga);

        CHECK_MAGIC(activity, ACTIVITY_MAGIC);
        return activity;
}

const struct driver *driver_find(const char *name)
{
        static const struct driver *const drivers[] = { &POSTGRES_DRIVER, &SUPABASE_DRIVER };

        for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
                if (name != NULL && strcmp(drivers[i]->name, name) == 0)
                        return drivers[i];
        return NULL;
}

int activity_open(struct saga *saga, const json_t *context, void **ret_state, struct err *err)
{
        struct activity *activity;
        const struct driver *driver = driver_find(json_text(context, "driver"));

        if (driver == NULL)
                return err_set(err, ERR_INTERNAL, "driver_unknown", "the tenant has no driver that we know");
        activity = NEW(struct activity);
        activity->magic = ACTIVITY_MAGIC;
        activity->saga = saga;
        activity->provisioner = saga_service(saga)->state;
        activity->driver = driver;
        activity->facts = json_deep_copy(context);
        *ret_state = activity;
        return 0;
}

void activity_disconnect(struct activity *activity)
{
        pg_close(TAKE_PTR(activity->conn));
        migration_job_free(TAKE_PTR(activity->migration));
}

enum step_result activity_lost(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct err lost;

        if (activity->if_gone != NULL)
                return activity->if_gone(saga);
        err_set(&lost, ERR_PERMANENT, "database_lost",
                "the tenant's database is no longer on its server, or is in the state before anybody used it: "
                "restore it (tenantry archive restore), or deprovision the tenant");
        return saga_fail(saga, &lost);
}

bool activity_may_make_again(const struct activity *activity)
{
        bool first = strcmp(activity_tenant(activity, "state"), "provisioning") == 0;

        return first && (!json_flag(json_object_get(activity->facts, "database"), "adopted") ||
                         json_flag(saga_data(activity->saga), "unused"));
}

/* Whether the error shows that something made earlier is missing, as on a server that fell back in time (a standby
 * without the last seconds took over). A login with another password is no better than none. */
static bool activity_tells_of_loss(const struct err *err)
{
        static const char *const codes[] = { "3D000", "3F000", "42704", "42P01", "28P01", "28000" };

        if (err->class == ERR_GONE || (err->class == ERR_AUTH && strcmp(err->code, "connect_failed") == 0))
                return true;
        for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
                if (strcmp(err->code, codes[i]) == 0)
                        return true;
        return false;
}

enum step_result activity_retry(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        int64_t mends = json_number(saga_data(saga), "mends", 0);
        struct err busy = *err;

        activity_disconnect(activity);
        if (strcmp(err->code, "42710") == 0 || strcmp(err->code, "23505") == 0) {
                busy.class = ERR_BUSY; /* just being made by a worker that the catalog has forgotten */
                return saga_retry(saga, &busy);
        }
        if (!activity_tells_of_loss(err) || activity->driver->mend == NULL || activity->elsewhere ||
            saga_is_undoing(saga) || mends == MENDS_MOST)
                return saga_retry(saga, err);
        json_object_set_new(saga_data(saga), "mends", json_integer(mends + 1));
        return activity->driver->mend(saga, err);
}

void activity_forget_files(struct activity *activity)
{
        registered_release(TAKE_PTR(activity->files));
        free(TAKE_PTR(activity->wanted));
        free(TAKE_PTR(activity->runs));
        json_decref(TAKE_PTR(activity->brought));
        activity->migrations = NULL;
}

void activity_begin_work(struct activity *activity, void *work, void (*abandon)(void *work))
{
        assert(activity->work == NULL);
        activity->work = work;
        activity->abandon = abandon;
        activity->interrupt = NULL;
}

void *activity_end_work(struct activity *activity)
{
        return TAKE_PTR(activity->work);
}

void activity_close(void *state)
{
        struct activity *activity = state;

        CHECK_MAGIC(activity, ACTIVITY_MAGIC);
        activity_disconnect(activity);
        if (activity->work != NULL)
                activity->abandon(activity_end_work(activity));
        json_decref(activity->facts);
        json_decref(activity->reply);
        json_decref(activity->schema);
        activity_forget_files(activity);
        free(activity->door.login);
        activity->magic = 0;
        free(activity);
}

bool activity_interrupt(void *state)
{
        struct activity *activity = state;

        CHECK_MAGIC(activity, ACTIVITY_MAGIC);
        if (activity->work == NULL || activity->interrupt == NULL)
                return false;
        activity->interrupt(activity->work);
        return true;
}

const char *activity_tenant(const struct activity *activity, const char *name)
{
        return json_text(activity->facts, name);
}

const char *activity_database(const struct activity *activity, const char *name)
{
        return json_text(json_object_get(activity->facts, "database"), name);
}

bool activity_is_live(const struct activity *activity)
{
        const char *status = activity_database(activity, "status");

        return status != NULL && strcmp(status, "live") == 0;
}

int64_t activity_number(const struct activity *activity, const char *name)
{
        return json_number(activity->facts, name, 0);
}

int activity_generation(const struct activity *activity)
{
        return (int)activity_number(activity, "generation");
}

int activity_secret(const struct activity *activity, const char *field, int generation, char **ret, struct err *err)
{
        return tenant_secret_open(&activity->provisioner->access, activity->facts, field, generation, ret, err);
}

json_t *activity_seal(const struct activity *activity, const char *field, int generation, const char *ring,
                      const char *plain)
{
        return tenant_secret_seal(&activity->provisioner->access, activity_tenant(activity, "tenant_id"), field,
                                  generation, ring, plain);
}

enum step_result activity_done(struct saga *saga)
{
        (void)saga;
        return STEP_DONE;
}

static enum step_result activity_learned(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        json_t *facts = NULL;
        struct err bad;

        if (err != NULL)
                return saga_retry(saga, err);
        if (json_parse(pg_text(rows, 0, "facts"), strlen(pg_text(rows, 0, "facts")), &facts, &bad) < 0)
                return saga_retry(saga, &bad);
        json_decref(activity->facts);
        activity->facts = facts;
        return activity->then(saga);
}

enum step_result activity_store(struct saga *saga, const char *sql, json_t *what,
                                enum step_result (*next)(struct saga *saga))
{
        auto_free char *text = json_print(what);

        json_decref(what);
        activity_of(saga)->then = next;
        return saga_query(saga, sql,
                          PARAMS(saga_id(saga), saga_fence(saga), saga_tenant(saga), text, saga_step_name(saga)),
                          activity_learned);
}

enum step_result activity_learn_then(struct saga *saga, json_t *facts, enum step_result (*next)(struct saga *saga))
{
        return activity_store(saga, SQL_LEARN, facts, next);
}

enum step_result activity_renew_secret(struct saga *saga, json_t *secret, enum step_result (*next)(struct saga *saga))
{
        return activity_store(saga, SQL_RENEW, secret, next);
}

enum step_result activity_learn(struct saga *saga, json_t *facts)
{
        return activity_learn_then(saga, facts, activity_done);
}

static enum step_result activity_identity_arrived(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err wrong;

        if (err != NULL)
                return activity_retry(saga, err);
        if (identity_check(rows, saga_tenant(saga), activity_generation(activity), &wrong) == 0)
                return activity->then(saga);
        activity_disconnect(activity);
        return saga_fail(saga, &wrong);
}

/* The state of reaching the database, in the saga's data: absent while it works, "sought" while the provider is being
 * asked, "known" once it has answered. */
static void activity_set_way(struct saga *saga, const char *way)
{
        if (way != NULL)
                json_set_text(saga_data(saga), "way", way);
        else
                json_object_del(saga_data(saga), "way");
}

enum step_result activity_unreachable(struct saga *saga)
{
        activity_set_way(saga, "known");
        return saga_retry(saga, &activity_of(saga)->failed);
}

enum step_result activity_found_again(struct saga *saga)
{
        activity_set_way(saga, NULL);
        return saga_wait(saga, 1);
}

/* Asks at every second failure, so that a database that is down for long does not use up the provider's rate limit. */
static enum step_result activity_find_again(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *way = json_text(saga_data(saga), "way");
        bool known = way != NULL && strcmp(way, "known") == 0;

        if (activity->driver->find_again == NULL)
                return activity_retry(saga, err);
        activity_set_way(saga, known ? NULL : "sought");
        if (known)
                return saga_retry(saga, err);
        activity->failed = *err;
        return activity->driver->find_again(saga);
}

/* The provider accepted the new password, but its pooler may use the old one for a while: no reason to give up a new
 * project. */
static enum step_result activity_login_refused_again(struct saga *saga, const struct err *err)
{
        struct err refused;

        err_set(&refused, ERR_BUSY, "login_refused", "the login is refused, though its password was reset: %.200s",
                err->message);
        refused.retry_after = LOGIN_DELAY;
        return saga_retry(saga, &refused);
}

static enum step_result activity_not_connected(struct saga *saga, const struct err *err, bool unmarked)
{
        struct activity *activity = activity_of(saga);
        bool recovered = json_flag(saga_data(saga), "login_recovered");

        activity_disconnect(activity);
        if (err->class == ERR_GONE && activity->if_gone != NULL)
                return activity->if_gone(saga);
        if (err->class == ERR_AUTH && recovered)
                return activity_login_refused_again(saga, err);
        if (err->class != ERR_AUTH || !unmarked || activity->driver->recover_login == NULL)
                return activity_find_again(saga, err);
        json_object_set_new(saga_data(saga), "login_recovered", json_true()); /* once */
        return activity->driver->recover_login(saga);
}

static enum step_result activity_connected_unmarked(struct saga *saga, const struct err *err)
{
        if (err != NULL)
                return activity_not_connected(saga, err, true);
        activity_set_way(saga, NULL);
        return activity_of(saga)->then(saga);
}

static enum step_result activity_connected(struct saga *saga, const struct err *err)
{
        if (err != NULL)
                return activity_not_connected(saga, err, false);
        activity_set_way(saga, NULL);
        return saga_script(saga, activity_of(saga)->conn, PROOF_TIMEOUT, IDENTITY_QUERY, activity_identity_arrived);
}

static void activity_connection_opened(void *context, const struct err *err)
{
        saga_resume(context, err);
}

enum step_result activity_connect(struct saga *saga, bool as_admin, bool unmarked,
                                  enum step_result (*next)(struct saga *saga))
{
        struct activity *activity = activity_of(saga);
        auto_secret char *keep = NULL;
        struct pg_target target = { 0 };
        struct err err;

        if (pg_is_usable(activity->conn) && activity->conn_is_admin == as_admin)
                return next(saga);
        activity_disconnect(activity);
        if (tenant_target(&activity->provisioner->access, activity->facts, as_admin ? TENANT_ADMIN : TENANT_OWNER,
                          &target, &keep, &err) < 0)
                return saga_retry(saga, &err);
        target.application_name = "tenantry-provisioner";
        target.connect_timeout_ms = saga_timeout(saga, CONNECT_TIMEOUT);
        activity->then = next;
        activity->conn_is_admin = as_admin;
        activity->conn = pg_open(&saga_service(saga)->loop, &target, activity_connection_opened, saga);
        return saga_await(saga, unmarked ? activity_connected_unmarked : activity_connected);
}
