/* Lists our projects in the organization: see supabase_inventory.h. */
#include "services/provisioner/supabase_inventory.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/net/http_client.h"
#include "services/provisioner/supabase_api.h"

#include <string.h>

#define CALL_TIMEOUT  SECONDS(15)
#define PAGE          100
#define PAGE_LIMIT    200 /* pages: 20,000 projects */
#define PROJECT_CENTS 1000

static const char SQL_QUARANTINED[] = "select * from quarantined('supabase')";

static const char SQL_ENDED[] = "select quarantine_ended($1::uuid, $2::int)";

struct look {
        struct provisioner *provisioner;
        void (*shown)(void *context, const char *server, json_t *list, const struct err *err);
        void *context;
        json_t *list;
        int page;
};

/* One quarantined project being deleted. */
struct removal {
        struct provisioner *provisioner;
        char *tenant, *generation, *name, *ref;
};

static void inventory_ask_page(struct look *look);

static void inventory_call_management(struct provisioner *provisioner, const char *method, const char *path,
                                      http_called_fn done, void *context)
{
        auto_secret char *authorization = mem_printf("Authorization: Bearer %s", provisioner->config->supabase_token);
        auto_free char *url = mem_printf("%s%s", provisioner->config->supabase_api_url, path);

        http_client_call(provisioner->service->transfers,
                         &(struct http_call){
                                 .method = method,
                                 .url = url,
                                 .headers = (const char *[]){ "Accept: application/json", authorization, NULL },
                                 .timeout_ms = CALL_TIMEOUT,
                         },
                         done, context);
}

static void inventory_finish_look(struct look *look, const struct err *err)
{
        look->shown(look->context, "", err ? NULL : json_incref(look->list), err);
        json_decref(look->list);
        free(look);
}

/* A status that is neither healthy nor a normal transition: somebody must look. NULL if all is well. */
static const char *inventory_sick_status(const json_t *project)
{
        static const char *const sick[] = { "INACTIVE", "INIT_FAILED", "PAUSE_FAILED", "PAUSING", "RESTORE_FAILED" };
        const char *status = json_text(project, "status");

        for (size_t i = 0; status != NULL && i < ARRAY_SIZE(sick); i++)
                if (strcmp(sick[i], status) == 0)
                        return status;
        return NULL;
}

/* As for all callers: everybody observes a limit, and a refused token is reported as such. */
static void inventory_refused(struct provisioner *provisioner, const char *endpoint, const struct http_reply *reply,
                              const json_t *body, struct err *ret)
{
        if (reply->status == 429)
                supabase_limited(provisioner, endpoint, reply, ret);
        else
                supabase_reply_error(&(struct supabase_reply){ .status = reply->status, .body = body }, ret);
}

static void inventory_page_arrived(void *context, const struct http_reply *reply, const struct err *err)
{
        struct look *look = context;
        const char *prefix = look->provisioner->config->supabase_prefix;
        auto_json *body = NULL;
        json_t *projects, *project;
        struct err bad;
        size_t i;

        if (err != NULL) {
                inventory_finish_look(look, err);
                return;
        }
        if (json_parse(reply->body, reply->length, &body, NULL) < 0 || reply->status != 200) {
                inventory_refused(look->provisioner, "find", reply, body, &bad);
                inventory_finish_look(look, &bad);
                return;
        }
        projects = json_object_get(body, "projects");
        json_array_foreach (projects, i, project) {
                const char *name = json_text(project, "name");

                if (name != NULL && strncmp(name, prefix, strlen(prefix)) == 0 && !json_flag(project, "is_branch"))
                        json_array_append_new(look->list,
                                              json_pack("{s:s, s:i, s:s?}", "name", name, "cost", PROJECT_CENTS,
                                                        "status", inventory_sick_status(project)));
        }
        if (json_array_size(projects) == PAGE && ++look->page < PAGE_LIMIT)
                inventory_ask_page(look);
        else
                inventory_finish_look(look, NULL);
}

static void inventory_ask_page(struct look *look)
{
        auto_free char *path = mem_printf("/v1/organizations/%s/projects?search=%s&limit=%d&offset=%d",
                                          look->provisioner->config->supabase_organization,
                                          look->provisioner->config->supabase_prefix, PAGE, look->page * PAGE);

        inventory_call_management(look->provisioner, "GET", path, inventory_page_arrived, look);
}

static void inventory_free_removal(struct removal *removal)
{
        free(removal->tenant);
        free(removal->generation);
        free(removal->name);
        free(removal->ref);
        free(removal);
}

static void inventory_end_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("the deletion of a quarantined project could not be recorded", "error", err->message, NULL);
}

/* The next round tries again; 400 only means that the project is still starting up. */
static void inventory_project_not_removed(const struct removal *removal, const char *endpoint,
                                          const struct http_reply *reply)
{
        auto_json *body = NULL;
        struct err bad;

        if (json_parse(reply->body, reply->length, &body, NULL) < 0)
                body = NULL;
        inventory_refused(removal->provisioner, endpoint, reply, body, &bad);
        if (reply->status != 400)
                log_warn("a quarantined project could not be removed; it will be tried again", "tenant",
                         removal->tenant, "project", removal->name, "error", bad.message, NULL);
}

static void inventory_project_deleted(void *context, const struct http_reply *reply, const struct err *err)
{
        struct removal *removal = context;

        if (err == NULL && reply->status != 200 && reply->status != 404)
                inventory_project_not_removed(removal, "delete", reply);
        else if (err == NULL && !removal->provisioner->service->stopping) {
                log_info("a quarantined project was deleted", "tenant", removal->tenant, "project", removal->name,
                         NULL);
                pg_pool_exec(removal->provisioner->service->catalog, SECONDS(5), SQL_ENDED,
                             PARAMS(removal->tenant, removal->generation), inventory_end_recorded, NULL);
        }
        inventory_free_removal(removal);
}

/* Deleted only if the project with this ref still has the name we gave it. */
static void inventory_project_seen(void *context, const struct http_reply *reply, const struct err *err)
{
        struct removal *removal = context;
        auto_json *body = NULL;
        auto_free char *path = NULL;

        if (err != NULL) {
                inventory_free_removal(removal);
                return;
        }
        if (reply->status == 404) {
                inventory_project_deleted(removal, reply, NULL);
                return;
        }
        if (reply->status != 200 || json_parse(reply->body, reply->length, &body, NULL) < 0 ||
            json_text(body, "name") == NULL) {
                inventory_project_not_removed(removal, "state", reply);
                inventory_free_removal(removal);
                return;
        }
        if (strcmp(json_text(body, "name"), removal->name) != 0) {
                inventory_free_removal(removal);
                return;
        }
        path = mem_printf("/v1/projects/%s", removal->ref);
        inventory_call_management(removal->provisioner, "DELETE", path, inventory_project_deleted, removal);
}

static void inventory_quarantine_listed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct provisioner *provisioner = context;

        for (int row = 0; err == NULL && row < pg_rows_count(rows) && !provisioner->service->stopping; row++) {
                struct removal *removal;
                auto_free char *path = NULL;

                if (pg_text(rows, row, "project_ref") == NULL)
                        continue;
                removal = NEW(struct removal);
                removal->provisioner = provisioner;
                removal->tenant = mem_copy_text(pg_text(rows, row, "tenant_id"));
                removal->generation = mem_copy_text(pg_text(rows, row, "generation"));
                removal->name = mem_copy_text(pg_text(rows, row, "name"));
                removal->ref = mem_copy_text(pg_text(rows, row, "project_ref"));
                path = mem_printf("/v1/projects/%s", removal->ref);
                inventory_call_management(provisioner, "GET", path, inventory_project_seen, removal);
        }
}

void supabase_take_inventory(struct provisioner *provisioner,
                             void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                             void *context)
{
        struct look *look = NEW(struct look);

        look->provisioner = provisioner;
        look->shown = shown;
        look->context = context;
        look->list = json_array();
        inventory_ask_page(look);
        pg_pool_exec(provisioner->service->catalog, SECONDS(5), SQL_QUARANTINED, NO_PARAMS, inventory_quarantine_listed,
                     provisioner);
}
