/* Where a project is made: see supabase_region.h. */
#include "services/provisioner/supabase_region.h"

#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/supabase_api.h"

#include <string.h>

/* Supabase's smart groups are by continent, as the first letters of the regions are. */
static const char *region_group(const char *region)
{
        if (strncmp(region, "eu-", 3) == 0 || strncmp(region, "me-", 3) == 0 || strncmp(region, "af-", 3) == 0)
                return "emea";
        return strncmp(region, "ap-", 3) == 0 ? "apac" : "americas";
}

static const char *region_wanted_group(const struct activity *activity)
{
        const char *region = activity_tenant(activity, "region");

        return region ? region_group(region) : activity->provisioner->config->supabase_region_group;
}

/* Regions where a project of this tenant never came up. */
static const json_t *region_list_stuck(const struct activity *activity)
{
        return json_object_get(activity->facts, "stuck_regions");
}

/* The first region of the group that has room, is not known to be full, and is not in avoided. NULL if there is
 * none. */
static const char *region_choose(struct saga *saga, const json_t *avoided)
{
        struct activity *activity = activity_of(saga);
        json_t *full = json_object_get(saga_data(saga), "full_regions"), *region, *all;
        size_t i;

        all = json_object_get(json_object_get(activity->reply, "all"), "specific");
        json_array_foreach (all, i, region) {
                const char *code = json_text(region, "code"), *status = json_text(region, "status");

                if (code != NULL && (status == NULL || strcmp(status, "capacity") != 0) &&
                    json_object_get(full, code) == NULL && json_object_get(avoided, code) == NULL &&
                    strcmp(region_group(code), region_wanted_group(activity)) == 0)
                        return code;
        }
        return NULL;
}

/* After a full region, or one where a project got stuck: the next one in the same group; if all others are full, a
 * region where one got stuck is better than none. */
static enum step_result region_list_arrived(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *code;
        struct err full;

        if (err != NULL || activity->reply_status != 200)
                return err ? saga_retry(saga, err) : supabase_refuse(saga);
        code = region_choose(saga, region_list_stuck(activity));
        if (code == NULL)
                code = region_choose(saga, NULL);
        if (code != NULL) {
                json_set_text(saga_data(saga), "region", code);
                return saga_wait(saga, 1);
        }
        json_object_del(saga_data(saga), "full_regions"); /* all are: try again later */
        json_object_del(saga_data(saga), "region");
        err_set(&full, ERR_BUSY, "provider_capacity", "Supabase has no room in any region of the group");
        full.retry_after = SECONDS(60);
        return saga_retry(saga, &full);
}

enum step_result supabase_list_regions(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return supabase_call(saga,
                             &(struct supabase_call){
                                     .endpoint = "regions",
                                     .method = "GET",
                                     .path = mem_printf("/v1/projects/available-regions?organization_slug=%s",
                                                        activity->provisioner->config->supabase_organization),
                             },
                             region_list_arrived);
}

enum step_result supabase_leave_region(struct saga *saga)
{
        json_t *data = saga_data(saga);
        const char *region =
                json_text(data, "region") ? json_text(data, "region") : activity_tenant(activity_of(saga), "region");

        if (json_object_get(data, "full_regions") == NULL)
                json_object_set_new(data, "full_regions", json_object());
        if (region != NULL)
                json_object_set_new(json_object_get(data, "full_regions"), region, json_true());
        return supabase_list_regions(saga);
}

bool supabase_got_stuck(const struct activity *activity)
{
        return json_object_size(region_list_stuck(activity)) > 0;
}

json_t *supabase_region_wish(struct saga *saga)
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
