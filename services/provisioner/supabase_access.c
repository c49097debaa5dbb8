/* Access to a project: the product's logins, the first administrator, the Data API, rotation, the link. See
 * supabase_access.h. */
#include "services/provisioner/supabase_access.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/contracts/product_url.h"
#include "common/tenant/fence.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/supabase_api.h"

#include <string.h>

#define STATEMENT     SECONDS(20)
#define BAN_FOREVER   "876000h"
#define DATA_API_OPEN "public,graphql_public"

/* Logins of the product. */

static enum step_result supabase_script_ended(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? activity_retry(saga, err) : STEP_DONE;
}

static enum step_result supabase_logins_made(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;

        if (err != NULL)
                return supabase_script_ended(saga, rows, err);
        FAILPOINT(driver_after_grant, NULL);
        sql = logins_rights_sql(activity);
        return saga_script(saga, activity->conn, STATEMENT, sql, supabase_script_ended);
}

static enum step_result supabase_make_logins(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;
        struct err err;

        if (FAILPOINT(driver_before_grant, &err) < 0 || logins_create_sql(activity, 1, false, &sql, &err) < 0)
                return saga_retry(saga, &err);
        return saga_script(saga, activity->conn, STATEMENT, sql, supabase_logins_made);
}

static enum step_result supabase_name_app_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *user = logins_user(activity, 1);

        return activity_learn_then(saga, json_pack("{s:s}", "app_login", user), supabase_make_logins);
}

/* The pooler usually accepts "role.ref" and logs in as "role"; if the database itself uses the long name, roles have
 * it. */
static enum step_result supabase_login_seen(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *suffix = NULL;

        if (err != NULL)
                return supabase_script_ended(saga, rows, err);
        suffix = mem_printf(".%s", supabase_ref(activity));
        return activity_learn_then(
                saga, json_pack("{s:s}", "login_suffix", strstr(pg_text(rows, 0, "me"), suffix) ? suffix : ""),
                supabase_name_app_login);
}

enum step_result supabase_prepare(struct saga *saga)
{
        return saga_script(saga, activity_of(saga)->conn, STATEMENT, "select current_user as me", supabase_login_seen);
}

/* The first administrator, with our uuid: whatever the answer was, looking up that uuid decides. */

static enum step_result supabase_user_looked_up(struct saga *saga, const struct err *err)
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
        if (activity->reply_status == 404 && json_flag(saga_data(saga), "admin_trouble")) {
                err_set(&taken, ERR_BUSY, "provider_trouble",
                        "Supabase Auth could not create the user; it will be retried");
                return saga_retry(saga, &taken);
        }
        if (activity->reply_status == 404 || activity->reply_status == 200) {
                err_set(&taken, ERR_PERMANENT, "email_taken",
                        "the mail address belongs to another user of the project");
                return saga_fail(saga, &taken);
        }
        return supabase_refuse(saga);
}

static bool supabase_is_duplicate(const json_t *reply)
{
        const char *code = json_text(reply, "code");

        return (code != NULL && strcmp(code, "23505") == 0) || json_number(reply, "code", 0) == 23505;
}

static enum step_result supabase_user_created(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        FAILPOINT(driver_after_admin, NULL);
        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 200 || activity->reply_status == 201)
                return STEP_DONE;
        if (activity->reply_status != 422 && activity->reply_status != 500)
                return supabase_refuse(saga);
        /* 500 with the code of a uniqueness violation is the same as 422; any other is just a failure. */
        if (activity->reply_status == 500 && !supabase_is_duplicate(activity->reply))
                json_object_set_new(saga_data(saga), "admin_trouble", json_true());
        else
                json_object_del(saga_data(saga), "admin_trouble");
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "user",
                                     .method = "GET",
                                     .path = mem_printf("/admin/users/%s", activity_tenant(activity, "admin_id")),
                                     .auth = true,
                             },
                             supabase_user_looked_up);
}

static enum step_result supabase_create_user(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

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
                supabase_user_created);
}

/* Where the tenant uses the product; the caller frees it. */
static char *supabase_product_url(const struct activity *activity)
{
        return product_url_of(activity->provisioner->config->links.product_url, activity_tenant(activity, "slug"));
}

static enum step_result supabase_site_set(struct saga *saga, const struct err *err)
{
        if (err != NULL)
                return saga_retry(saga, err);
        return activity_of(saga)->reply_status == 200 ? supabase_create_user(saga) : supabase_refuse(saga);
}

/* A new project sends everybody who follows a link to http://localhost:3000, and a redirect_to other than its site URL
 * and its allowed list is silently replaced by the site URL. Source: Management API, v1-update-auth-service-config. */
enum step_result supabase_create_admin(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *url = supabase_product_url(activity);
        struct err err;

        if (FAILPOINT(driver_before_admin, &err) < 0)
                return saga_retry(saga, &err);
        return supabase_call(
                saga,
                &(struct supabase_call){
                        .endpoint = "auth-config",
                        .method = "PATCH",
                        .path = mem_printf("/v1/projects/%s/config/auth", activity_database(activity, "project_ref")),
                        .body = json_pack("{s:s}", "site_url", url),
                },
                supabase_site_set);
}

/* Access: the app login, the Data API, the administrator. All three must be closed, since any one of them would leave a
 * way in. */

static const char *supabase_access_goal(struct saga *saga)
{
        return json_text(saga_data(saga), "access_goal");
}

static enum step_result supabase_ban_set(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status != 200 && activity->reply_status != 404) /* 404: the product deleted that user */
                return supabase_refuse(saga);
        FAILPOINT(driver_after_access, NULL);
        return activity_learn(saga, json_pack("{s:s}", "access_applied", supabase_access_goal(saga)));
}

static enum step_result supabase_set_ban(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return supabase_call(
                saga,
                &(struct supabase_call){
                        .endpoint = "user",
                        .method = "PUT",
                        .path = mem_printf("/admin/users/%s", activity_tenant(activity, "admin_id")),
                        .body = json_pack("{s:s}", "ban_duration",
                                          strcmp(supabase_access_goal(saga), "full") == 0 ? "none" : BAN_FOREVER),
                        .auth = true,
                },
                supabase_ban_set);
}

static enum step_result supabase_data_api_set(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *schemas = err ? NULL : json_text(activity->reply, "db_schema");
        struct err wrong;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        if (schemas == NULL || (*schemas != '\0') != (strcmp(supabase_access_goal(saga), "full") == 0)) {
                err_set(&wrong, ERR_BUSY, "access_not_applied", "the Data API is not as it was set just now");
                return saga_retry(saga, &wrong);
        }
        return supabase_set_ban(saga);
}

static enum step_result supabase_set_data_api(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *known = activity_database(activity, "data_api_schemas");
        const char *schemas = strcmp(supabase_access_goal(saga), "full") == 0 ? (known ? known : DATA_API_OPEN) : "";

        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "postgrest",
                                     .method = "PATCH",
                                     .path = mem_printf("/v1/projects/%s/postgrest", supabase_ref(activity)),
                                     .body = json_pack("{s:s}", "db_schema", schemas),
                             },
                             supabase_data_api_set);
}

/* The schemas that were open will be opened again. */
static enum step_result supabase_data_api_seen(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *schemas = err ? NULL : json_text(activity->reply, "db_schema");

        if (err != NULL || activity->reply_status != 200 || schemas == NULL)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        if (strcmp(supabase_access_goal(saga), "full") == 0)
                return *schemas != '\0' ? supabase_set_ban(saga) : supabase_set_data_api(saga);
        if (*schemas == '\0')
                return supabase_set_ban(saga); /* it is closed */
        return activity_learn_then(saga, json_pack("{s:s}", "data_api_schemas", schemas), supabase_set_data_api);
}

static enum step_result supabase_login_access_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        if (err != NULL)
                return supabase_script_ended(saga, rows, err);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "postgrest-read",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s/postgrest", supabase_ref(activity_of(saga))),
                             },
                             supabase_data_api_seen);
}

static enum step_result supabase_set_login_access(struct saga *saga)
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
        fenced = fence_guarded_sql(saga_fence(saga), change);
        sql = mem_printf("%s %s", fenced, ended);
        return saga_script(saga, activity->conn, STATEMENT, sql, supabase_login_access_set);
}

enum step_result supabase_apply_access(struct saga *saga)
{
        return activity_connect(saga, true, false, supabase_set_login_access);
}

/* Rotation. */

static enum step_result supabase_next_login_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        FAILPOINT(driver_after_rotate, NULL);
        return supabase_script_ended(saga, rows, err);
}

static enum step_result supabase_write_next_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        bool open = strcmp(activity_tenant(activity, "access_applied"), "full") == 0;
        auto_free char *change = NULL, *sql = NULL;
        struct err err;

        if (FAILPOINT(driver_before_rotate, &err) < 0 ||
            logins_create_sql(activity, activity_number(activity, "rotation_applied") + 1, open, &change, &err) < 0)
                return saga_retry(saga, &err);
        sql = fence_guarded_sql(saga_fence(saga), change);
        return saga_script(saga, activity->conn, STATEMENT, sql, supabase_next_login_set);
}

enum step_result supabase_set_next_login(struct saga *saga)
{
        return activity_connect(saga, true, false, supabase_write_next_login);
}

static enum step_result supabase_close_old_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *change = logins_retire_sql(activity), *fenced = fence_guarded_sql(saga_fence(saga), change);
        auto_free char *old = logins_name(activity, activity_number(activity, "rotation_applied") - 1);
        auto_free char *ended = logins_end_sessions_sql(old, old), *sql = mem_printf("%s %s", fenced, ended);

        return saga_script(saga, activity->conn, STATEMENT, sql, supabase_script_ended);
}

enum step_result supabase_end_old_login(struct saga *saga)
{
        return activity_connect(saga, true, false, supabase_close_old_login);
}

/* The link, when the person has clicked ours. */

static enum step_result supabase_link_arrived(struct saga *saga, const struct err *err);

static enum step_result supabase_ask_link(struct saga *saga, const char *type)
{
        struct activity *activity = activity_of(saga);
        auto_free char *url = supabase_product_url(activity);

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
                             supabase_link_arrived);
}

static enum step_result supabase_link_arrived(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *link = err ? NULL : json_text(activity->reply, "action_link");
        int number = (int)activity_number(activity, "link_wanted");

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 422 && strcmp(json_text(saga_data(saga), "link_type"), "invite") == 0)
                return supabase_ask_link(saga, "recovery"); /* the address is already confirmed */
        if (activity->reply_status != 200 || link == NULL)
                return supabase_refuse(saga);
        return activity_learn(saga, json_pack("{s:i, s:[o]}", "link_made", number, "secrets",
                                              activity_seal(activity, "invite_link", number, "app", link)));
}

enum step_result supabase_make_link(struct saga *saga)
{
        return supabase_ask_link(saga, "invite");
}
