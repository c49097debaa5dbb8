/* Tenants as Supabase projects: found by their name, adopted or created once, replaced when they never come up. */
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/supabase_api.h"
#include "services/provisioner/supabase_inventory.h"

#include <string.h>

#define STATEMENT      SECONDS(20)
#define CONFLICT_DELAY SECONDS(3)
#define HEALTH_DELAY   SECONDS(3)
#define PASSWORD_DELAY SECONDS(5)
#define DELETE_DELAY   SECONDS(30)
#define BAN_FOREVER    "876000h"
#define DATA_API_OPEN  "public,graphql_public"

static const char *ref_of(const struct activity *activity)
{
        return activity_database(activity, "project_ref");
}

static enum step_result refuse(struct saga *saga)
{
        struct err err;

        supabase_error(activity_of(saga), &err);
        return saga_retry(saga, &err);
}

/* Right after creation some parts of a project are "not found" for a while. */
static enum step_result refuse_for_now(struct saga *saga)
{
        struct err err;

        supabase_error(activity_of(saga), &err);
        if (err.class == ERR_GONE)
                err.class = ERR_BUSY;
        return saga_retry(saga, &err);
}

/* Create: look the name up, adopt what is there, create what is not. */

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

static enum step_result adopt(struct saga *saga, const char *ref, const char *region)
{
        json_object_del(saga_data(saga), "turns");
        return activity_learn(saga, json_pack("{s:s, s:s?}", "project_ref", ref, "region", region));
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

/* A full region: the next one of the same group. */
static enum step_result regions_listed(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        json_t *tried = json_object_get(saga_data(saga), "full_regions"), *region, *all;
        size_t i;
        struct err full;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : refuse(saga);
        all = json_object_get(json_object_get(activity->reply, "all"), "specific");
        json_array_foreach (all, i, region) {
                const char *code = json_text(region, "code"), *status = json_text(region, "status");

                if (code == NULL || (status != NULL && strcmp(status, "capacity") == 0) ||
                    json_object_get(tried, code) != NULL || strcmp(group_of(code), wanted_group(activity)) != 0)
                        continue;
                json_set_text(saga_data(saga), "region", code);
                return saga_wait(saga, 1);
        }
        json_object_del(saga_data(saga), "full_regions"); /* all are: begin again later */
        json_object_del(saga_data(saga), "region");
        err_set(&full, ERR_BUSY, "provider_capacity", "Supabase has no room in any region of the group");
        full.retry_after = SECONDS(60);
        return saga_retry(saga, &full);
}

static enum step_result find_other_region(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        json_t *data = saga_data(saga);
        const char *region =
                json_text(data, "region") ? json_text(data, "region") : activity_tenant(activity, "region");

        if (json_object_get(data, "full_regions") == NULL)
                json_object_set_new(data, "full_regions", json_object());
        if (region != NULL)
                json_object_set_new(json_object_get(data, "full_regions"), region, json_true());
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "regions",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/available-regions?organization_slug=%s",
                                                        activity->provisioner->config->supabase_organization),
                             },
                             regions_listed);
}

static enum step_result project_created(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err refused;

        FAILPOINT(driver_after_create, NULL);
        if (err != NULL)
                return saga_retry(saga, err); /* it may have been created: the next attempt looks */
        if (activity->reply_status == 201 && json_text(activity->reply, "ref") != NULL)
                return adopt(saga, json_text(activity->reply, "ref"), json_text(activity->reply, "region"));
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
                        .endpoint = "create",
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
                return err ? saga_retry(saga, err) : refuse(saga);
        project = find_by_name(activity);
        if (project != NULL)
                return adopt(saga, json_text(project, "ref"), json_text(project, "region"));
        return create_project(saga);
}

static enum step_result create(struct saga *saga)
{
        if (ref_of(activity_of(saga)) != NULL)
                return STEP_DONE;
        if (json_flag(saga_data(saga), "elsewhere")) { /* the project before this one never came up in its region */
                json_object_del(saga_data(saga), "elsewhere");
                return find_other_region(saga);
        }
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
        return STEP_RESTART;
}

static enum step_result next_generation(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return activity_learn_then(saga, json_pack("{s:i}", "generation", activity_generation(activity) + 1),
                                   begin_anew);
}

/* Stuck or broken: the janitor deletes it when it can be deleted; the tenant gets another, elsewhere in the group. */
static enum step_result replace(struct saga *saga)
{
        const char *region = activity_database(activity_of(saga), "region");
        json_t *data = saga_data(saga);

        if (json_object_get(data, "full_regions") == NULL)
                json_object_set_new(data, "full_regions", json_object());
        if (region != NULL)
                json_object_set_new(json_object_get(data, "full_regions"), region, json_true());
        json_object_set_new(data, "elsewhere", json_true());
        return activity_learn_then(saga, json_pack("{s:s}", "database_status", "quarantined"), next_generation);
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

        if (err != NULL)
                return overdue(saga) ? replace(saga) : saga_retry(saga, err);
        json_array_foreach (activity->reply, i, service) {
                const char *status = json_text(service, "status");

                healthy += status != NULL && strcmp(status, "ACTIVE_HEALTHY") == 0;
        }
        if (activity->reply_status == 200 && healthy > 0 && healthy == json_array_size(activity->reply))
                return STEP_DONE;
        if (overdue(saga))
                return replace(saga);
        return activity->reply_status == 200 ? saga_wait(saga, HEALTH_DELAY) : refuse(saga);
}

static enum step_result state_arrived(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *status = err ? NULL : json_text(activity->reply, "status");

        if (err != NULL)
                return overdue(saga) ? replace(saga) : saga_retry(saga, err);
        if (activity->reply_status == 404)
                return replace(saga);
        if (activity->reply_status != 200 || status == NULL)
                return overdue(saga) ? replace(saga) : refuse(saga);
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

        if (!json_flag(saga_data(saga), "active"))
                return supabase_call(saga,
                                     &(struct supabase_call){
                                             .endpoint = "state",
                                             .method = "GET",
                                             .path = mem_printf("/v1/projects/%s", ref_of(activity)),
                                     },
                                     state_arrived);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "health",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s/health?services=db&services=db_postgres_user"
                                                        "&services=pooler&services=auth&timeout_ms=3000",
                                                        ref_of(activity)),
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
                        .path = mem_printf("/v1/projects/%s/config/database/pooler", ref_of(activity_of(saga))),
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
                                     .path = mem_printf("/v1/projects/%s/api-keys?reveal=true", ref_of(activity)),
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
                return err ? saga_retry(saga, err) : refuse(saga);
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
                                     .path = mem_printf("/v1/projects/%s/database/password", ref_of(activity)),
                                     .body = json_pack("{s:s}", "password", password),
                             },
                             password_set);
}

/* Logins of the product. */

static enum step_result script_ended(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err == NULL)
                return STEP_DONE;
        activity_disconnect(activity_of(saga));
        return saga_retry(saga, err);
}

static enum step_result logins_made(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;

        if (err != NULL)
                return script_ended(saga, rows, err);
        FAILPOINT(driver_after_grant, NULL);
        sql = logins_rights_sql(activity);
        return saga_script(saga, activity->conn, STATEMENT, sql, script_ended);
}

static enum step_result make_logins(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;
        struct err err;

        if (FAILPOINT(driver_before_grant, &err) < 0 || logins_create_sql(activity, 1, false, &sql, &err) < 0)
                return saga_retry(saga, &err);
        return saga_script(saga, activity->conn, STATEMENT, sql, logins_made);
}

static enum step_result name_app_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *user = logins_user(activity, 1);

        return activity_learn_then(saga, json_pack("{s:s}", "app_login", user), make_logins);
}

/* The pooler usually takes "role.ref" and logs in as "role"; where the database itself knows the long name, roles carry
 * it. */
static enum step_result user_seen(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *suffix = NULL;

        if (err != NULL)
                return script_ended(saga, rows, err);
        suffix = mem_printf(".%s", ref_of(activity));
        return activity_learn_then(
                saga, json_pack("{s:s}", "login_suffix", strstr(pg_text(rows, 0, "me"), suffix) ? suffix : ""),
                name_app_login);
}

static enum step_result prepare(struct saga *saga)
{
        return saga_script(saga, activity_of(saga)->conn, STATEMENT, "select current_user as me", user_seen);
}

/* The first administrator, by our uuid: whatever the answer was, asking for that uuid decides. */

static enum step_result user_looked_up(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *email = err ? NULL : json_text(activity->reply, "email");
        struct err taken;

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 200 && email != NULL && strcmp(email, activity_tenant(activity, "email")) == 0 &&
            (json_object_get(activity->reply, "deleted_at") == NULL ||
             json_is_null(json_object_get(activity->reply, "deleted_at"))))
                return STEP_DONE;
        if (activity->reply_status == 404 || activity->reply_status == 200) {
                err_set(&taken, ERR_PERMANENT, "email_taken",
                        "the mail address belongs to another user of the project");
                return saga_fail(saga, &taken);
        }
        return refuse(saga);
}

static enum step_result user_created(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        FAILPOINT(driver_after_admin, NULL);
        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 200 || activity->reply_status == 201)
                return STEP_DONE;
        if (activity->reply_status != 422 && activity->reply_status != 500)
                return refuse(saga);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "user",
                                     .method = "GET",
                                     .path = mem_printf("/admin/users/%s", activity_tenant(activity, "admin_id")),
                                     .auth = true,
                             },
                             user_looked_up);
}

static enum step_result create_admin(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct err err;

        if (FAILPOINT(driver_before_admin, &err) < 0)
                return saga_retry(saga, &err);
        return supabase_call(
                saga,
                &(struct supabase_call){
                        .endpoint = "user",
                        .method = "POST",
                        .path = mem_copy_text("/admin/users"),
                        .body = json_pack("{s:s, s:s, s:b, s:{s:s, s:s}, s:{s:s?}}", "id",
                                          activity_tenant(activity, "admin_id"), "email",
                                          activity_tenant(activity, "email"), "email_confirm", 0, "app_metadata",
                                          "tenant_id", saga_tenant(saga), "role", "owner", "user_metadata", "name",
                                          activity_tenant(activity, "admin_name")),
                        .auth = true,
                },
                user_created);
}

/* Access: the app login, the Data API, the administrator. All three, for each alone leaves a way in. */

static const char *goal_of(struct saga *saga)
{
        return json_text(saga_data(saga), "access_goal");
}

static enum step_result ban_set(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status != 200 && activity->reply_status != 404) /* 404: the product deleted that user */
                return refuse(saga);
        FAILPOINT(driver_after_access, NULL);
        return activity_learn(saga, json_pack("{s:s}", "access_applied", goal_of(saga)));
}

static enum step_result set_ban(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "user",
                                     .method = "PUT",
                                     .path = mem_printf("/admin/users/%s", activity_tenant(activity, "admin_id")),
                                     .body = json_pack("{s:s}", "ban_duration",
                                                       strcmp(goal_of(saga), "full") == 0 ? "none" : BAN_FOREVER),
                                     .auth = true,
                             },
                             ban_set);
}

static enum step_result data_api_set(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *schemas = err ? NULL : json_text(activity->reply, "db_schema");
        struct err wrong;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : refuse(saga);
        if (schemas == NULL || (*schemas != '\0') != (strcmp(goal_of(saga), "full") == 0)) {
                err_set(&wrong, ERR_BUSY, "access_not_applied", "the Data API is not as it was set a moment ago");
                return saga_retry(saga, &wrong);
        }
        return set_ban(saga);
}

static enum step_result set_data_api(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *known = activity_database(activity, "data_api_schemas");
        const char *schemas = strcmp(goal_of(saga), "full") == 0 ? (known ? known : DATA_API_OPEN) : "";

        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "postgrest",
                                     .method = "PATCH",
                                     .path = mem_printf("/v1/projects/%s/postgrest", ref_of(activity)),
                                     .body = json_pack("{s:s}", "db_schema", schemas),
                             },
                             data_api_set);
}

/* What was open is what will be opened again. */
static enum step_result data_api_seen(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *schemas = err ? NULL : json_text(activity->reply, "db_schema");

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : refuse(saga);
        if (strcmp(goal_of(saga), "full") == 0) {
                if (schemas != NULL && *schemas != '\0')
                        return set_ban(saga); /* it is open */
                return set_data_api(saga);
        }
        if (schemas == NULL || *schemas == '\0')
                return set_ban(saga); /* it is closed */
        return activity_learn_then(saga, json_pack("{s:s}", "data_api_schemas", schemas), set_data_api);
}

static enum step_result login_access_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        if (err != NULL)
                return script_ended(saga, rows, err);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "postgrest-read",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s/postgrest", ref_of(activity_of(saga))),
                             },
                             data_api_seen);
}

static enum step_result set_login_access(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *goal = activity_tenant(activity, "access_wanted");
        bool open = strcmp(goal, "full") == 0;
        auto_free char *change = logins_access_sql(activity, open), *fenced = NULL;
        auto_free char *ended = NULL, *sql = NULL, *a = NULL, *b = NULL;
        struct err err;

        if (FAILPOINT(driver_before_access, &err) < 0)
                return saga_retry(saga, &err);
        json_set_text(saga_data(saga), "access_goal", goal);
        a = logins_name(activity, 1);
        b = logins_name(activity, 2);
        ended = open ? mem_copy_text("") : logins_end_sessions_sql(a, b);
        fenced = logins_fenced(saga, change);
        sql = mem_printf("%s %s", fenced, ended);
        return saga_script(saga, activity->conn, STATEMENT, sql, login_access_set);
}

static enum step_result apply_access(struct saga *saga)
{
        return activity_connect(saga, true, false, set_login_access);
}

/* Rotation. */

static enum step_result write_next_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        bool open = strcmp(activity_tenant(activity, "access_applied"), "full") == 0;
        auto_free char *change = NULL, *sql = NULL;
        struct err err;

        if (FAILPOINT(driver_before_rotate, &err) < 0 ||
            logins_create_sql(activity, activity_number(activity, "rotation_applied") + 1, open, &change, &err) < 0)
                return saga_retry(saga, &err);
        sql = logins_fenced(saga, change);
        return saga_script(saga, activity->conn, STATEMENT, sql, script_ended);
}

static enum step_result set_next_login(struct saga *saga)
{
        return activity_connect(saga, true, false, write_next_login);
}

static enum step_result close_old_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *change = logins_retire_sql(activity), *fenced = logins_fenced(saga, change);
        auto_free char *old = logins_name(activity, activity_number(activity, "rotation_applied") - 1);
        auto_free char *ended = logins_end_sessions_sql(old, old), *sql = mem_printf("%s %s", fenced, ended);

        return saga_script(saga, activity->conn, STATEMENT, sql, script_ended);
}

static enum step_result end_old_login(struct saga *saga)
{
        return activity_connect(saga, true, false, close_old_login);
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
        return activity->reply_status == 400 ? saga_wait(saga, DELETE_DELAY) : refuse(saga); /* 400: still coming up */
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
                return refuse(saga);
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
                                     .path = mem_printf("/v1/projects/%s", ref_of(activity)),
                             },
                             project_deleted);
}

/* A create whose answer was lost leaves no ref: what the name finds is deleted too. */
static enum step_result lost_project_found(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const json_t *project;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : refuse(saga);
        project = find_by_name(activity);
        if (project == NULL)
                return STEP_DONE;
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
        if (ref_of(activity) == NULL)
                return list_by_name(saga, lost_project_found);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "state",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s", ref_of(activity)),
                             },
                             name_proved);
}

/* The link, when the person has clicked ours. */

static enum step_result link_arrived(struct saga *saga, const struct err *err);

static enum step_result ask_link(struct saga *saga, const char *type)
{
        struct activity *activity = activity_of(saga);
        const char *pattern = activity->provisioner->config->product_url, *hole = strstr(pattern, "{slug}");
        auto_free char *url = hole ? mem_printf("%.*s%s%s", (int)(hole - pattern), pattern,
                                                activity_tenant(activity, "slug"), hole + 6)
                                   : mem_copy_text(pattern);

        json_set_text(saga_data(saga), "link_type", type);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "link",
                                     .method = "POST",
                                     .path = mem_copy_text("/admin/generate_link"),
                                     .body = json_pack("{s:s, s:s, s:s}", "type", type, "email",
                                                       activity_tenant(activity, "email"), "redirect_to", url),
                                     .auth = true,
                             },
                             link_arrived);
}

static enum step_result link_arrived(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *link = err ? NULL : json_text(activity->reply, "action_link");
        int number = (int)activity_number(activity, "link_wanted");

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 422 && strcmp(json_text(saga_data(saga), "link_type"), "invite") == 0)
                return ask_link(saga, "recovery"); /* the address is confirmed already */
        if (activity->reply_status != 200 || link == NULL)
                return refuse(saga);
        return activity_learn(saga, json_pack("{s:i, s:[o]}", "link_made", number, "secrets",
                                              activity_seal(activity, "invite_link", number, "app", link)));
}

static enum step_result make_link(struct saga *saga)
{
        return ask_link(saga, "invite");
}

const struct driver SUPABASE_DRIVER = {
        .name = "supabase",
        .create = create,
        .await_ready = await_ready,
        .read_connection = read_connection,
        .prepare = prepare,
        .create_admin = create_admin,
        .apply_access = apply_access,
        .set_next_login = set_next_login,
        .end_old_login = end_old_login,
        .drop = drop,
        .make_link = make_link,
        .take_inventory = supabase_take_inventory,
        .recover_login = recover_login,
        .target = target,
};
