/* Tenants as Supabase projects: found by their name, adopted or created once, replaced if they never come up. The part
 * that acts inside a project is in supabase_access.c. */
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/supabase_access.h"
#include "services/provisioner/supabase_api.h"
#include "services/provisioner/supabase_connection.h"
#include "services/provisioner/supabase_inventory.h"
#include "services/provisioner/supabase_region.h"

#include <string.h>

#define CONFLICT_DELAY SECONDS(3)
#define HEALTH_DELAY   SECONDS(3)
#define DELETE_DELAY   SECONDS(30)
#define LOOKS_LEAST    6
#define ABSENT_LOOKS   4 /* the list of projects lags: a requested project may show up late */

/* Create: looks up the name, adopts what exists, creates what does not. One turn covers both calls: a saga put down
 * between them would have to look again, at the end of the queue, and younger ones would overtake it. */

/* A project's name up to its generation: prefix-TENANT-g. */
static size_t supabase_stem_length(const char *name)
{
        const char *last = strrchr(name, '-');

        return last ? (size_t)(last - name) + 2 : strlen(name);
}

/* All generations of the tenant: their names differ in the end. */
static enum step_result supabase_list_by_name(struct saga *saga, saga_then then)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");

        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "find",
                                     .method = "GET",
                                     .path = mem_printf("/v1/organizations/%s/projects?search=%.*s&limit=100&offset=0",
                                                        activity->provisioner->config->supabase_organization,
                                                        (int)supabase_stem_length(name), name),
                             },
                             then);
}

/* The search matches parts of names: only the exact name counts, and not a branch of it. */
static const json_t *supabase_find_by_name(const struct activity *activity)
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

static enum step_result supabase_begin_anew(struct saga *saga)
{
        json_object_del(saga_data(saga), "active");
        json_object_del(saga_data(saga), "turns");
        json_object_del(saga_data(saga), "region");
        json_object_del(saga_data(saga), "looks");
        return STEP_RESTART;
}

static int supabase_newest_generation(const struct activity *activity)
{
        const char *own = activity_database(activity, "name");
        size_t stem = supabase_stem_length(own), i;
        int newest = 0;
        json_t *project;

        json_array_foreach (json_object_get(activity->reply, "projects"), i, project) {
                const char *name = json_text(project, "name");

                if (name != NULL && strncmp(name, own, stem) == 0 && !json_flag(project, "is_branch"))
                        newest = MAX(newest, atoi(name + stem));
        }
        return newest;
}

static enum step_result supabase_project_known(struct saga *saga)
{
        if (json_flag(json_object_get(activity_of(saga)->facts, "database"), "adopted"))
                saga_keep(saga);
        else
                saga_release(saga);
        return STEP_DONE;
}

static enum step_result supabase_take_created(struct saga *saga)
{
        const json_t *project = activity_of(saga)->reply;

        json_object_del(saga_data(saga), "turns");
        return activity_learn_then(saga,
                                   json_pack("{s:s, s:s?}", "project_ref", json_text(project, "ref"), "region",
                                             json_text(project, "region")),
                                   supabase_project_known);
}

/* Found by its name: from an earlier attempt, or from before the catalog was restored. Its creation time tells which,
 * and the catalog compares it; a project with a customer's data is never replaced or deleted from here. */
static enum step_result supabase_adopt(struct saga *saga, const json_t *project)
{
        const char *born = json_text(project, "inserted_at");

        json_object_del(saga_data(saga), "turns");
        return activity_learn_then(saga,
                                   json_pack("{s:s, s:s?, s:s}", "project_ref", json_text(project, "ref"), "region",
                                             json_text(project, "region"), "project_created_at", born ? born : ""),
                                   supabase_project_known);
}

static enum step_result supabase_project_created(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err refused;

        FAILPOINT(driver_after_create, NULL);
        if (err != NULL)
                return saga_retry(saga, err); /* it may have been created: the next attempt looks */
        if (activity->reply_status == 201 && json_text(activity->reply, "ref") != NULL)
                return supabase_take_created(saga);
        if (activity->reply_status == 409)
                return saga_wait(saga, CONFLICT_DELAY); /* it exists, but the list does not show it yet */
        supabase_error(activity, &refused);
        if (strcmp(refused.code, "provider_capacity") == 0)
                return supabase_leave_region(saga);
        return supabase_give_up(saga, &refused);
}

static enum step_result supabase_create_project(struct saga *saga)
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
                                          "db_pass", password, "region_selection", supabase_region_wish(saga)),
                },
                supabase_project_created);
}

static enum step_result supabase_projects_listed(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const json_t *project;
        int newest;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        newest = supabase_newest_generation(activity);
        if (newest > activity_generation(activity)) /* the catalog was restored: the tenant continues there */
                return activity_learn_then(saga,
                                           json_pack("{s:i, s:s, s:i}", "of_generation", activity_generation(activity),
                                                     "database_status", "deleted", "generation", newest),
                                           supabase_begin_anew);
        project = supabase_find_by_name(activity);
        if (project != NULL)
                return supabase_adopt(saga, project);
        return supabase_create_project(saga);
}

static enum step_result supabase_create(struct saga *saga)
{
        if (supabase_ref(activity_of(saga)) != NULL)
                return supabase_project_known(saga);
        if (json_text(saga_data(saga), "region") == NULL && supabase_got_stuck(activity_of(saga)))
                return supabase_list_regions(saga); /* the project before this one never came up in its region */
        return supabase_list_by_name(saga, supabase_projects_listed);
}

/* Ready: the project's own status, then the health of the services that we will call. */

static bool supabase_is_hopeless(const char *status)
{
        /* Not a status that only a previously used project can have (INACTIVE, PAUSE_FAILED, ...): then a person must
         * look. */
        static const char *const hopeless[] = { "INIT_FAILED", "GOING_DOWN", "REMOVED" };

        for (size_t i = 0; i < ARRAY_SIZE(hopeless); i++)
                if (strcmp(hopeless[i], status) == 0)
                        return true;
        return false;
}

static enum step_result supabase_wait_for_health(struct saga *saga)
{
        struct err err;

        err_set(&err, ERR_BUSY, "project_not_healthy",
                "the project was in use before, so it is not replaced; it must become healthy");
        return saga_retry(saga, &err);
}

/* Stuck or broken: the janitor deletes it once that is possible; the tenant gets another one, elsewhere in the
 * group. */
static enum step_result supabase_replace(struct saga *saga)
{
        int generation = activity_generation(activity_of(saga));

        if (saga_is_kept(saga))
                return supabase_wait_for_health(saga);
        return activity_learn_then(saga,
                                   json_pack("{s:i, s:s, s:i}", "of_generation", generation, "database_status",
                                             "quarantined", "generation", generation + 1),
                                   supabase_begin_anew);
}

static bool supabase_has_lived(const char *status)
{
        static const char *const lived[] = { "INACTIVE", "PAUSING", "PAUSE_FAILED", "RESTORING", "RESTORE_FAILED" };

        for (size_t i = 0; i < ARRAY_SIZE(lived); i++)
                if (strcmp(lived[i], status) == 0)
                        return true;
        return false;
}

/* By the clock and by observation: after an outage, or in a restored catalog, the clock alone says nothing. */
static bool supabase_is_overdue(struct saga *saga)
{
        int64_t looks = json_number(saga_data(saga), "looks", 0) + 1;

        json_object_set_new(saga_data(saga), "looks", json_integer(looks));
        return looks > LOOKS_LEAST && saga_step_age(saga) > activity_of(saga)->provisioner->config->supabase_ready_ms;
}

static enum step_result supabase_health_arrived(struct saga *saga, const struct err *err)
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
        return supabase_is_overdue(saga) ? supabase_replace(saga) : saga_wait(saga, HEALTH_DELAY);
}

static enum step_result supabase_state_arrived(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *status = err ? NULL : json_text(activity->reply, "status");

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 404)
                return supabase_is_overdue(saga) ? supabase_replace(saga) : supabase_refuse_for_now(saga);
        if (activity->reply_status != 200 || status == NULL)
                return supabase_refuse(saga); /* an outage of the provider says nothing about the project */
        if (strcmp(status, "ACTIVE_HEALTHY") == 0) {
                json_object_set_new(saga_data(saga), "active", json_true());
                return saga_wait(saga, 1);
        }
        if (supabase_has_lived(status))
                return supabase_wait_for_health(saga);
        if (supabase_is_hopeless(status) || supabase_is_overdue(saga))
                return supabase_replace(saga);
        return saga_wait(saga, activity->provisioner->config->supabase_poll_ms);
}

static enum step_result supabase_await_ready(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (supabase_ref(activity) == NULL)
                return supabase_begin_anew(
                        saga); /* replaced a moment ago; the names of the next one are not reserved yet */
        if (!json_flag(saga_data(saga), "active"))
                return supabase_call(saga,
                                     &(struct supabase_call){
                                             .endpoint = "state",
                                             .method = "GET",
                                             .path = mem_printf("/v1/projects/%s", supabase_ref(activity)),
                                     },
                                     supabase_state_arrived);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "health",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s/health?services=db&services=db_postgres_user"
                                                        "&services=pooler&services=auth&timeout_ms=3000",
                                                        supabase_ref(activity)),
                             },
                             supabase_health_arrived);
}

/* Deletion: by ref, after checking that the name is ours. */

static enum step_result supabase_project_deleted(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 200 || activity->reply_status == 404) {
                FAILPOINT(driver_after_delete, NULL);
                return STEP_DONE;
        }
        return activity->reply_status == 400 ? saga_wait(saga, DELETE_DELAY)
                                             : supabase_refuse(saga); /* 400: still starting up */
}

static enum step_result supabase_name_proved(struct saga *saga, const struct err *err)
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
                             supabase_project_deleted);
}

/* A create whose answer was lost leaves no ref: a project found by the name is deleted too. */
static enum step_result supabase_lost_project_found(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const json_t *project;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        project = supabase_find_by_name(activity);
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
                             supabase_project_deleted);
}

static enum step_result supabase_drop(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (activity_database(activity, "name") == NULL)
                return STEP_DONE;
        activity_disconnect(activity);
        if (supabase_ref(activity) == NULL)
                return supabase_list_by_name(saga, supabase_lost_project_found);
        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "state",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/%s", supabase_ref(activity)),
                             },
                             supabase_name_proved);
}

const struct driver SUPABASE_DRIVER = {
        .name = "supabase",
        .create = supabase_create,
        .await_ready = supabase_await_ready,
        .read_connection = supabase_read_connection,
        .prepare = supabase_prepare,
        .create_admin = supabase_create_admin,
        .apply_access = supabase_apply_access,
        .set_next_login = supabase_set_next_login,
        .end_old_login = supabase_end_old_login,
        .drop = supabase_drop,
        .make_link = supabase_make_link,
        .take_inventory = supabase_take_inventory,
        .recover_login = supabase_recover_login,
        .find_again = supabase_find_again,
};
