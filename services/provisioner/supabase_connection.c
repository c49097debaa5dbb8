/* How to connect to a project's database: keys are chosen by type and role, never by name; the pooler's host is read,
 * never composed. See supabase_connection.h. */
#include "services/provisioner/supabase_connection.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/supabase_api.h"

#include <string.h>

#define PASSWORD_DELAY SECONDS(5)

/* The primary's pooler among those in the answer; borrowed, NULL if it is not listed. */
static const json_t *connection_find_primary(const json_t *poolers)
{
        const json_t *row;
        size_t i;

        json_array_foreach ((json_t *)(uintptr_t)poolers, i, row) {
                const char *type = json_text(row, "database_type");

                if (type != NULL && strcmp(type, "PRIMARY") == 0 && json_text(row, "db_host") != NULL)
                        return row;
        }
        return NULL;
}

static json_t *connection_way_by(const struct activity *activity, const json_t *pooler)
{
        auto_free char *port = mem_printf("%lld", (long long)activity->provisioner->config->supabase_session_port);

        return json_pack("{s:s, s:s, s:s?, s:s?}", "host", json_text(pooler, "db_host"), "port", port, "dbname",
                         json_text(pooler, "db_name"), "owner_login", json_text(pooler, "db_user"));
}

static enum step_result connection_pooler_read(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const json_t *pooler;
        struct err none;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse_for_now(saga);
        pooler = connection_find_primary(activity->reply);
        if (pooler != NULL)
                return activity_learn(saga, connection_way_by(activity, pooler));
        err_set(&none, ERR_BUSY, "no_pooler", "Supabase shows no pooler for the project yet");
        return saga_retry(saga, &none);
}

static enum step_result connection_ask_pooler(struct saga *saga, saga_then then)
{
        return supabase_call(
                saga,
                &(struct supabase_call){
                        .endpoint = "pooler",
                        .method = "GET",
                        .path = mem_printf("/v1/projects/%s/config/database/pooler", supabase_ref(activity_of(saga))),
                },
                then);
}

static enum step_result connection_read_pooler(struct saga *saga)
{
        return connection_ask_pooler(saga, connection_pooler_read);
}

/* A database that cannot be reached: has its pooler moved, is the project paused, or gone? */

static bool connection_status_is(const json_t *reply, const char *one, const char *other)
{
        const char *status = json_text(reply, "status");

        return status != NULL && (strcmp(status, one) == 0 || strcmp(status, other) == 0);
}

static enum step_result connection_project_state_seen(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        bool answered = err == NULL && activity->reply_status == 200;
        bool gone = err == NULL && activity->reply_status == 404;

        if (err == NULL && (activity->reply_status == 401 || activity->reply_status == 403))
                return supabase_refuse(saga);
        gone = gone || (answered && connection_status_is(activity->reply, "REMOVED", "GOING_DOWN"));
        if (gone && activity->if_gone != NULL)
                return activity->if_gone(saga);
        if (!answered || !connection_status_is(activity->reply, "INACTIVE", "PAUSING"))
                return activity_unreachable(saga);
        if (activity->if_paused != NULL)
                return activity->if_paused(saga);
        err_set(&activity->failed, ERR_BUSY, "project_paused", "the project is paused: restore it at Supabase");
        return activity_unreachable(saga);
}

static bool connection_is_another(const struct activity *activity, const json_t *pooler)
{
        static const char *const members[][2] = { { "host", "db_host" },
                                                  { "dbname", "db_name" },
                                                  { "owner_login", "db_user" } };

        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                const char *known = activity_database(activity, members[i][0]), *now = json_text(pooler, members[i][1]);

                if (now != NULL && (known == NULL || strcmp(known, now) != 0))
                        return true;
        }
        return false;
}

static enum step_result connection_way_stored(struct saga *saga)
{
        FAILPOINT(driver_after_renew, NULL);
        return activity_found_again(saga);
}

static enum step_result connection_pooler_read_again(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const json_t *pooler =
                err == NULL && activity->reply_status == 200 ? connection_find_primary(activity->reply) : NULL;

        if (err == NULL && (activity->reply_status == 401 || activity->reply_status == 403))
                return supabase_refuse(saga);
        if (pooler != NULL && connection_is_another(activity, pooler)) {
                FAILPOINT(driver_before_renew, NULL);
                return activity_learn_then(saga, connection_way_by(activity, pooler), connection_way_stored);
        }
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "state",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s", supabase_ref(activity)),
                             },
                             connection_project_state_seen);
}

enum step_result supabase_find_again(struct saga *saga)
{
        return supabase_ref(activity_of(saga)) ? connection_ask_pooler(saga, connection_pooler_read_again)
                                               : activity_unreachable(saga);
}

static const char *connection_find_service_key(const json_t *keys)
{
        const char *legacy = NULL;
        json_t *key;
        size_t i;

        json_array_foreach ((json_t *)(uintptr_t)keys, i, key) {
                const char *type = json_text(key, "type"), *text = json_text(key, "api_key"),
                           *id = json_text(key, "id");
                const char *role = json_text(json_object_get(key, "secret_jwt_template"), "role");

                if (type == NULL || text == NULL)
                        continue;
                if (strcmp(type, "secret") == 0 && role != NULL && strcmp(role, "service_role") == 0)
                        return text;
                if (strcmp(type, "legacy") == 0 && id != NULL && strcmp(id, "service_role") == 0)
                        legacy = text;
        }
        return legacy;
}

static enum step_result connection_ask_keys(struct saga *saga, saga_then then)
{
        return supabase_call(
                saga,
                &(struct supabase_call){
                        .endpoint = "keys",
                        .method = "GET",
                        .path = mem_printf("/v1/projects/%s/api-keys?reveal=true", supabase_ref(activity_of(saga))),
                },
                then);
}

/* The service key among the keys in the answer, sealed; or NULL, and *ret is how the step ends. */
static json_t *connection_take_key(struct saga *saga, const struct err *err, enum step_result *ret)
{
        struct activity *activity = activity_of(saga);
        const char *key;
        struct err none;

        if (err != NULL || activity->reply_status != 200) {
                *ret = err ? saga_retry(saga, err) : supabase_refuse_for_now(saga);
                return NULL;
        }
        key = connection_find_service_key(activity->reply);
        if (key == NULL) {
                err_set(&none, ERR_BUSY, "no_service_key", "Supabase shows no service key for the project yet");
                *ret = saga_retry(saga, &none);
                return NULL;
        }
        return activity_seal(activity, "service_key", activity_generation(activity), "control", key);
}

static enum step_result connection_keys_read(struct saga *saga, const struct err *err)
{
        enum step_result result;
        json_t *secret = connection_take_key(saga, err, &result);

        if (secret == NULL)
                return result;
        return activity_learn_then(saga, json_pack("{s:[o]}", "secrets", secret), connection_read_pooler);
}

enum step_result supabase_read_connection(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_secret char *known = NULL;

        if (activity_secret(activity, "service_key", activity_generation(activity), &known, NULL) == 0)
                return connection_read_pooler(saga);
        return connection_ask_keys(saga, connection_keys_read);
}

static enum step_result connection_key_stored(struct saga *saga)
{
        FAILPOINT(driver_after_renew, NULL);
        return supabase_key_renewed(saga);
}

static enum step_result connection_keys_read_again(struct saga *saga, const struct err *err)
{
        enum step_result result;
        json_t *secret = connection_take_key(saga, err, &result);

        if (secret == NULL)
                return result;
        FAILPOINT(driver_before_renew, NULL);
        return activity_renew_secret(saga, secret, connection_key_stored);
}

enum step_result supabase_renew_key(struct saga *saga)
{
        return connection_ask_keys(saga, connection_keys_read_again);
}

/* A restored catalog has lost the password of a project that is ours according to its name. */
static enum step_result connection_password_set(struct saga *saga, const struct err *err)
{
        if (err != NULL || activity_of(saga)->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        return saga_wait(saga, PASSWORD_DELAY); /* too many wrong passwords get our address banned */
}

enum step_result supabase_recover_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_secret char *password = NULL;
        struct err err;

        if (activity_secret(activity, "owner_password", activity_generation(activity), &password, &err) < 0)
                return saga_retry(saga, &err);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "password",
                                     .method = "PATCH",
                                     .path = mem_printf("/v1/projects/%s/database/password", supabase_ref(activity)),
                                     .body = json_pack("{s:s}", "password", password),
                             },
                             connection_password_set);
}
