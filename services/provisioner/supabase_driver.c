/* Tenants as Supabase projects: found by their name, adopted or created once, replaced when they never come up. What
 * acts inside a project is in supabase_access.c. */
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/supabase_access.h"
#include "services/provisioner/supabase_api.h"
#include "services/provisioner/supabase_inventory.h"

#include <string.h>

#define CONFLICT_DELAY SECONDS(3)
#define HEALTH_DELAY   SECONDS(3)
#define PASSWORD_DELAY SECONDS(5)
#define DELETE_DELAY   SECONDS(30)
#define ABSENT_LOOKS   4 /* the list of projects lags: what was asked for may show up late */

/* Right after creation some parts of a project are "not found" for a while. */
static enum step_result refuse_for_now(struct saga *saga)
{
        struct err err;

        supabase_error(activity_of(saga), &err);
        if (err.class == ERR_GONE)
                err.class = ERR_BUSY;
        return saga_retry(saga, &err);
}

/* Create: look the name up, adopt what is there, create what is not. One turn is for both calls: put down between them,
 * a saga would have to look again, at the end of the queue, and younger ones would pass it. */

static enum step_result list_by_name(struct saga *saga, saga_then then)
{
        struct activity *activity = activity_of(saga);

        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "find",
                                     .method = "GET",
                                     .path = mem_printf("/v1/organizations/%s/projects?search=%s&limit=100&offset=0",
                                                        activity->provisioner->config->supabase_organization,
                                                        activity_database(activity, "name")),
                             },
                             then);
}

/* The search matches parts of names: only the very name counts, and no branch of it. */
static const json_t *find_by_name(const struct activity *activity)
{
        json_t *project;
        size_t i;

        json_array_foreach (json_object_get(activity->reply, "projects"), i, project) {
                const char *name = json_text(project, "name");

                if (name != NULL && strcmp(name, activity_database(activity, "name")) == 0 &&
                    !json_flag(project, "is_branch") && json_text(project, "ref") != NULL)
                        return project;
        }
        return NULL;
}

static enum step_result project_known(struct saga *saga)
{
        if (json_flag(json_object_get(activity_of(saga)->facts, "database"), "adopted"))
                saga_keep(saga);
        return STEP_DONE;
}

static enum step_result take_created(struct saga *saga)
{
        const json_t *project = activity_of(saga)->reply;

        json_object_del(saga_data(saga), "turns");
        return activity_learn(saga, json_pack("{s:s, s:s?}", "project_ref", json_text(project, "ref"), "region",
                                              json_text(project, "region")));
}

/* Found by its name: an earlier attempt's, or one from a life before the catalog was restored. Its birthday tells, and
 * the catalog compares; one with a customer's data in it is never replaced or deleted from here. */
static enum step_result adopt(struct saga *saga, const json_t *project)
{
        const char *born = json_text(project, "inserted_at");

        json_object_del(saga_data(saga), "turns");
        return activity_learn_then(saga,
                                   json_pack("{s:s, s:s?, s:s}", "project_ref", json_text(project, "ref"), "region",
                                             json_text(project, "region"), "project_created_at", born ? born : ""),
                                   project_known);
}

/* Supabase's smart groups are by continent, as the first letters of the regions are. */
static const char *group_of(const char *region)
{
        if (strncmp(region, "eu-", 3) == 0 || strncmp(region, "me-", 3) == 0 || strncmp(region, "af-", 3) == 0)
                return "emea";
        return strncmp(region, "ap-", 3) == 0 ? "apac" : "americas";
}

static const char *wanted_group(const struct activity *activity)
{
        const char *region = activity_tenant(activity, "region");

        return region ? group_of(region) : activity->provisioner->config->supabase_region_group;
}

/* Regions where a project of this tenant never came up. */
static const json_t *stuck_regions(const struct activity *activity)
{
        return json_object_get(activity->facts, "stuck_regions");
}

/* The first region of the group that has room, is not known to be full, and is not in avoided. NULL: there is none. */
static const char *choose_region(struct saga *saga, const json_t *avoided)
{
        struct activity *activity = activity_of(saga);
        json_t *full = json_object_get(saga_data(saga), "full_regions"), *region, *all;
        size_t i;

        all = json_object_get(json_object_get(activity->reply, "all"), "specific");
        json_array_foreach (all, i, region) {
                const char *code = json_text(region, "code"), *status = json_text(region, "status");

                if (code != NULL && (status == NULL || strcmp(status, "capacity") != 0) &&
                    json_object_get(full, code) == NULL && json_object_get(avoided, code) == NULL &&
                    strcmp(group_of(code), wanted_group(activity)) == 0)
                        return code;
        }
        return NULL;
}

/* A full region, or one where a project got stuck: the next one of the same group; where all others are full, a region
 * where one got stuck is better than none. */
static enum step_result regions_listed(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *code;
        struct err full;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        code = choose_region(saga, stuck_regions(activity));
        if (code == NULL)
                code = choose_region(saga, NULL);
        if (code != NULL) {
                json_set_text(saga_data(saga), "region", code);
                return saga_wait(saga, 1);
        }
        json_object_del(saga_data(saga), "full_regions"); /* all are: begin again later */
        json_object_del(saga_data(saga), "region");
        err_set(&full, ERR_BUSY, "provider_capacity", "Supabase has no room in any region of the group");
        full.retry_after = SECONDS(60);
        return saga_retry(saga, &full);
}

static enum step_result list_regions(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "regions",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/available-regions?organization_slug=%s",
                                                        activity->provisioner->config->supabase_organization),
                             },
                             regions_listed);
}

static enum step_result find_other_region(struct saga *saga)
{
        json_t *data = saga_data(saga);
        const char *region =
                json_text(data, "region") ? json_text(data, "region") : activity_tenant(activity_of(saga), "region");

        if (json_object_get(data, "full_regions") == NULL)
                json_object_set_new(data, "full_regions", json_object());
        if (region != NULL)
                json_object_set_new(json_object_get(data, "full_regions"), region, json_true());
        return list_regions(saga);
}

static enum step_result project_created(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err refused;

        FAILPOINT(driver_after_create, NULL);
        if (err != NULL)
                return saga_retry(saga, err); /* it may have been created: the next attempt looks */
        if (activity->reply_status == 201 && json_text(activity->reply, "ref") != NULL)
                return take_created(saga);
        if (activity->reply_status == 409)
                return saga_wait(saga, CONFLICT_DELAY); /* it is there, and the list does not show it yet */
        supabase_error(activity, &refused);
        if (strcmp(refused.code, "provider_capacity") == 0)
                return find_other_region(saga);
        return saga_retry(saga, &refused);
}

static json_t *region_selection(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *region = json_text(saga_data(saga), "region");

        if (region == NULL)
                region = activity_tenant(activity, "region");
        if (region != NULL)
                return json_pack("{s:s, s:s}", "type", "specific", "code", region);
        return json_pack("{s:s, s:s}", "type", "smartGroup", "code",
                         activity->provisioner->config->supabase_region_group);
}

static enum step_result create_project(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_secret char *password = NULL;
        struct err err;

        if (FAILPOINT(driver_before_create, &err) < 0 ||
            activity_secret(activity, "owner_password", activity_generation(activity), &password, &err) < 0)
                return saga_retry(saga, &err);
        return supabase_call(
                saga,
                &(struct supabase_call){
                        .endpoint = "find",
                        .covered = true,
                        .method = "POST",
                        .path = mem_copy_text("/v1/projects"),
                        .body = json_pack("{s:s, s:s, s:s, s:o}", "name", activity_database(activity, "name"),
                                          "organization_slug", activity->provisioner->config->supabase_organization,
                                          "db_pass", password, "region_selection", region_selection(saga)),
                },
                project_created);
}

static enum step_result projects_listed(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const json_t *project;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        project = find_by_name(activity);
        if (project != NULL)
                return adopt(saga, project);
        return create_project(saga);
}

static enum step_result create(struct saga *saga)
{
        if (supabase_ref(activity_of(saga)) != NULL)
                return project_known(saga);
        if (json_text(saga_data(saga), "region") == NULL && json_object_size(stuck_regions(activity_of(saga))) > 0)
                return list_regions(saga); /* the project before this one never came up in its region */
        return list_by_name(saga, projects_listed);
}

/* Ready: the project's own status, then the health of what we will call. */

static bool status_is_hopeless(const char *status)
{
        static const char *const hopeless[] = { "INIT_FAILED", "GOING_DOWN",   "REMOVED",
                                                "INACTIVE",    "PAUSE_FAILED", "RESTORE_FAILED" };

        for (size_t i = 0; i < ARRAY_SIZE(hopeless); i++)
                if (strcmp(hopeless[i], status) == 0)
                        return true;
        return false;
}

static enum step_result begin_anew(struct saga *saga)
{
        json_object_del(saga_data(saga), "active");
        json_object_del(saga_data(saga), "turns");
        json_object_del(saga_data(saga), "region");
        return STEP_RESTART;
}

/* Stuck or broken: the janitor deletes it when it can be deleted; the tenant gets another, elsewhere in the group. */
static enum step_result replace(struct saga *saga)
{
        int generation = activity_generation(activity_of(saga));
        struct err err;

        if (saga_is_kept(saga)) {
                err_set(&err, ERR_BUSY, "project_not_healthy",
                        "the project was there before this signup, so it is not replaced; it must become healthy");
                return saga_retry(saga, &err);
        }
        return activity_learn_then(saga,
                                   json_pack("{s:i, s:s, s:i}", "of_generation", generation, "database_status",
                                             "quarantined", "generation", generation + 1),
                                   begin_anew);
}

static bool overdue(struct saga *saga)
{
        return saga_step_age(saga) > activity_of(saga)->provisioner->config->supabase_ready_ms;
}

static enum step_result health_arrived(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        json_t *service;
        size_t i, healthy = 0;

        if (err != NULL || activity->reply_status != 200) /* no answer says nothing about the project */
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        json_array_foreach (activity->reply, i, service) {
                const char *status = json_text(service, "status");

                healthy += status != NULL && strcmp(status, "ACTIVE_HEALTHY") == 0;
        }
        if (healthy > 0 && healthy == json_array_size(activity->reply))
                return STEP_DONE;
        return overdue(saga) ? replace(saga) : saga_wait(saga, HEALTH_DELAY);
}

static enum step_result state_arrived(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *status = err ? NULL : json_text(activity->reply, "status");

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 404)
                return overdue(saga) ? replace(saga) : refuse_for_now(saga);
        if (activity->reply_status != 200 || status == NULL)
                return supabase_refuse(saga); /* an outage of the provider says nothing about the project */
        if (strcmp(status, "ACTIVE_HEALTHY") == 0) {
                json_object_set_new(saga_data(saga), "active", json_true());
                return saga_wait(saga, 1);
        }
        if (status_is_hopeless(status) || overdue(saga))
                return replace(saga);
        return saga_wait(saga, activity->provisioner->config->supabase_poll_ms);
}

static enum step_result await_ready(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (supabase_ref(activity) == NULL)
                return begin_anew(saga); /* replaced a moment ago; the names of the next one are not reserved yet */
        if (!json_flag(saga_data(saga), "active"))
                return supabase_call(saga,
                                     &(struct supabase_call){
                                             .endpoint = "state",
                                             .method = "GET",
                                             .path = mem_printf("/v1/projects/%s", supabase_ref(activity)),
                                     },
                                     state_arrived);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "health",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s/health?services=db&services=db_postgres_user"
                                                        "&services=pooler&services=auth&timeout_ms=3000",
                                                        supabase_ref(activity)),
                             },
                             health_arrived);
}

/* Connection: keys by type and role, never by name; the pooler's host is read, never composed. */

static enum step_result pooler_read(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *port = mem_printf("%lld", (long long)activity->provisioner->config->supabase_session_port);
        json_t *row;
        size_t i;
        struct err none;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : refuse_for_now(saga);
        json_array_foreach (activity->reply, i, row) {
                const char *type = json_text(row, "database_type");

                if (type == NULL || strcmp(type, "PRIMARY") != 0 || json_text(row, "db_host") == NULL)
                        continue;
                return activity_learn(saga, json_pack("{s:s, s:s, s:s?, s:s?}", "host", json_text(row, "db_host"),
                                                      "port", port, "dbname", json_text(row, "db_name"), "owner_login",
                                                      json_text(row, "db_user")));
        }
        err_set(&none, ERR_BUSY, "no_pooler", "Supabase shows no pooler for the project yet");
        return saga_retry(saga, &none);
}

static enum step_result read_pooler(struct saga *saga)
{
        return supabase_call(
                saga,
                &(struct supabase_call){
                        .endpoint = "pooler",
                        .method = "GET",
                        .path = mem_printf("/v1/projects/%s/config/database/pooler", supabase_ref(activity_of(saga))),
                },
                pooler_read);
}

static const char *find_service_key(const json_t *keys)
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

static enum step_result keys_read(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *key;
        struct err none;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : refuse_for_now(saga);
        key = find_service_key(activity->reply);
        if (key == NULL) {
                err_set(&none, ERR_BUSY, "no_service_key", "Supabase shows no service key for the project yet");
                return saga_retry(saga, &none);
        }
        return activity_learn_then(
                saga,
                json_pack("{s:[o]}", "secrets",
                          activity_seal(activity, "service_key", activity_generation(activity), "control", key)),
                read_pooler);
}

static enum step_result read_connection(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_secret char *known = NULL;

        if (activity_secret(activity, "service_key", activity_generation(activity), &known, NULL) == 0)
                return read_pooler(saga);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "keys",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s/api-keys?reveal=true", supabase_ref(activity)),
                             },
                             keys_read);
}

static int target(struct activity *activity, bool as_admin, struct pg_target *target, char **ret_keep, struct err *err)
{
        int rc = activity_secret(activity, "owner_password", activity_generation(activity), ret_keep, err);
        const char *sslmode = activity->provisioner->config->tenant_sslmode;

        (void)as_admin; /* the owner is all the admin there is */
        *target = (struct pg_target){
                .host = activity_database(activity, "host"),
                .port = activity_database(activity, "port"),
                .dbname = activity_database(activity, "dbname"),
                .user = activity_database(activity, "owner_login"),
                .password = *ret_keep,
                .sslmode = sslmode ? sslmode : "require", /* the way leads through the internet */
        };
        return rc;
}

/* A catalog that was restored has lost the password of a project that is ours by its name. */
static enum step_result password_set(struct saga *saga, const struct err *err)
{
        if (err != NULL || activity_of(saga)->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        return saga_wait(saga, PASSWORD_DELAY); /* a wrong password too often gets our address banned */
}

static enum step_result recover_login(struct saga *saga)
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
                             password_set);
}

/* Deletion: by ref, after its name was seen to be ours. */

static enum step_result project_deleted(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 200 || activity->reply_status == 404) {
                FAILPOINT(driver_after_delete, NULL);
                return STEP_DONE;
        }
        return activity->reply_status == 400 ? saga_wait(saga, DELETE_DELAY)
                                             : supabase_refuse(saga); /* 400: still coming up */
}

static enum step_result name_proved(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *name = err ? NULL : json_text(activity->reply, "name");
        struct err foreign;

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 404)
                return STEP_DONE;
        if (activity->reply_status != 200)
                return supabase_refuse(saga);
        if (name == NULL || strcmp(name, activity_database(activity, "name")) != 0) {
                err_set(&foreign, ERR_PERMANENT, "not_ours", "the project has another name: it was not deleted");
                return saga_fail(saga, &foreign);
        }
        if (FAILPOINT(driver_before_delete, &foreign) < 0)
                return saga_retry(saga, &foreign);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "delete",
                                     .method = "DELETE",
                                     .path = mem_printf("/v1/projects/%s", supabase_ref(activity)),
                             },
                             project_deleted);
}

/* A create whose answer was lost leaves no ref: what the name finds is deleted too. */
static enum step_result lost_project_found(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const json_t *project;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        project = find_by_name(activity);
        if (project == NULL) {
                json_int_t looks = json_number(saga_data(saga), "absent", 0) + 1;

                json_object_set_new(saga_data(saga), "absent", json_integer(looks));
                return looks < ABSENT_LOOKS ? saga_wait(saga, activity->provisioner->config->supabase_poll_ms)
                                            : STEP_DONE;
        }
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "delete",
                                     .method = "DELETE",
                                     .path = mem_printf("/v1/projects/%s", json_text(project, "ref")),
                             },
                             project_deleted);
}

static enum step_result drop(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (activity_database(activity, "name") == NULL)
                return STEP_DONE;
        activity_disconnect(activity);
        if (supabase_ref(activity) == NULL)
                return list_by_name(saga, lost_project_found);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "state",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s", supabase_ref(activity)),
                             },
                             name_proved);
}

const struct driver SUPABASE_DRIVER = {
        .name = "supabase",
        .create = create,
        .await_ready = await_ready,
        .read_connection = read_connection,
        .prepare = supabase_prepare,
        .create_admin = supabase_create_admin,
        .apply_access = supabase_apply_access,
        .set_next_login = supabase_set_next_login,
        .end_old_login = supabase_end_old_login,
        .drop = drop,
        .make_link = supabase_make_link,
        .take_inventory = supabase_take_inventory,
        .recover_login = recover_login,
        .target = target,
};
