/* Calls to Supabase: see supabase_api.h. */
#include "services/provisioner/supabase_api.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/rate_budget.h"
#include "common/net/retry_after.h"
#include "services/provisioner/supabase_connection.h"

#include <string.h>

#define CALL_TIMEOUT  SECONDS(15)
#define BLOCK_DEFAULT SECONDS(10)
#define AT_ONCE       5

/* A call, from its request to its answer: the activity's outside work. */
struct supabase_request {
        char *endpoint, *method, *path, *body;
        bool auth;
        saga_then then;
        struct http_exchange *exchange; /* sent, or NULL */
};

static void api_free_request(void *work)
{
        struct supabase_request *request = work;

        http_client_cancel(request->exchange);
        free(request->endpoint);
        free(request->method);
        free(request->path);
        mem_free_secret(request->body);
        free(request);
}

char *supabase_auth_url(const struct activity *activity, const char *path)
{
        const char *pattern = activity->provisioner->config->supabase_auth_url, *hole = strstr(pattern, "{ref}");

        if (hole == NULL)
                return mem_printf("%s%s", pattern, path);
        return mem_printf("%.*s%s%s%s", (int)(hole - pattern), pattern, activity_database(activity, "project_ref"),
                          hole + 5, path);
}

static char *api_budget_name(const char *endpoint)
{
        return mem_printf("supabase:%s", endpoint);
}

/* Nobody should wait for days because of a number that was meant differently, or forged on the way. */
static int64_t api_wait_asked(const char *endpoint, const struct http_reply *reply)
{
        auto_free char *after = mem_copy_text(http_reply_header(reply, "Retry-After")),
                       *date = mem_copy_text(http_reply_header(reply, "Date")),
                       *reset = mem_copy_text(http_reply_header(reply, "X-RateLimit-Reset"));
        bool capped;
        int64_t ms;

        if (reset == NULL)
                reset = mem_copy_text(http_reply_header(reply, "RateLimit-Reset"));
        ms = retry_after_ms(&(struct retry_asked){ .retry_after = after, .reset = reset, .date = date }, &capped);
        if (capped)
                log_warn("Supabase asks for a wait of more than an hour; waiting one hour", "endpoint", endpoint,
                         "retry_after", after, "reset", reset, NULL);
        return ms;
}

static void api_limited(struct provisioner *provisioner, const char *endpoint, int64_t asked_ms, struct err *err)
{
        auto_free char *budget = api_budget_name(endpoint);

        err_set(err, ERR_BUSY, "rate_limited", "Supabase limits our requests to %s", endpoint);
        err->retry_after = asked_ms ? asked_ms : BLOCK_DEFAULT;
        rate_budget_block(provisioner->service, budget, err->retry_after);
}

void supabase_limited(struct provisioner *provisioner, const char *endpoint, const struct http_reply *reply,
                      struct err *err)
{
        api_limited(provisioner, endpoint, api_wait_asked(endpoint, reply), err);
}

static void api_reply_arrived(void *context, const struct http_reply *reply, const struct err *err)
{
        struct saga *saga = context;
        struct activity *activity = activity_of(saga);
        struct supabase_request *request = activity->work;

        request->exchange = NULL;
        json_decref(activity->reply);
        activity->reply = NULL;
        activity->reply_status = err ? 0 : reply->status;
        activity->reply_retry_after =
                err == NULL && reply->status == 429 ? api_wait_asked(request->endpoint, reply) : 0;
        activity->reply_from_auth = request->auth;
        if (err == NULL && json_parse(reply->body, reply->length, &activity->reply, NULL) < 0)
                activity->reply = NULL;
        saga_resume(saga, err);
}

/* A service key belongs to the project, and may have been changed there: it is read again, once per attempt of a
 * step. */
static enum step_result api_key_refused(struct saga *saga)
{
        const char *known = json_text(saga_data(saga), "service_key");
        bool renewed = known != NULL && strcmp(known, "renewed") == 0;
        struct err err;

        json_set_text(saga_data(saga), "service_key", "refused");
        if (!renewed)
                return saga_wait(saga, 1);
        supabase_error(activity_of(saga), &err);
        return saga_retry(saga, &err);
}

enum step_result supabase_key_renewed(struct saga *saga)
{
        json_set_text(saga_data(saga), "service_key", "renewed");
        return saga_wait(saga, 1);
}

static enum step_result api_answered(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct supabase_request *request = activity_end_work(activity);
        saga_then then = request->then;
        struct err later;

        if (err == NULL && activity->reply_status == 429) {
                auto_free char *budget = api_budget_name(request->endpoint);

                api_limited(activity->provisioner, request->endpoint, activity->reply_retry_after, &later);
                rate_budget_keep_turn(saga, budget);
                api_free_request(request);
                return saga_retry(saga, &later);
        }
        if (err == NULL && request->auth && (activity->reply_status == 401 || activity->reply_status == 403)) {
                api_free_request(request);
                return api_key_refused(saga);
        }
        if (request->auth && err == NULL)
                json_object_del(saga_data(saga), "service_key");
        api_free_request(request);
        return then(saga, err);
}

/* sb_secret_ keys are sent only in apikey; the older keys are also tokens. */
static int api_auth_headers(const struct activity *activity, char **ret_apikey, char **ret_bearer, struct err *err)
{
        auto_secret char *key = NULL;
        int rc = activity_secret(activity, "service_key", activity_generation(activity), &key, err);

        if (rc < 0)
                return rc;
        *ret_apikey = mem_printf("apikey: %s", key);
        if (strncmp(key, "sb_secret_", 10) != 0)
                *ret_bearer = mem_printf("Authorization: Bearer %s", key);
        return 0;
}

static enum step_result api_send_now(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct supabase_request *request = activity->work;
        const struct provisioner_config *config = activity->provisioner->config;
        auto_free char *url = request->auth ? supabase_auth_url(activity, request->path)
                                            : mem_printf("%s%s", config->supabase_api_url, request->path);
        auto_secret char *first = NULL, *second = NULL;
        struct err err;
        int rc = 0;

        if (request->auth)
                rc = api_auth_headers(activity, &first, &second, &err);
        else
                first = mem_printf("Authorization: Bearer %s", config->supabase_token);
        if (rc < 0 || !saga_is_ours(saga)) {
                api_free_request(activity_end_work(activity));
                return rc < 0 ? saga_retry(saga, &err) : saga_wait(saga, 1);
        }
        request->exchange =
                http_client_call(activity->provisioner->service->transfers,
                                 &(struct http_call){
                                         .method = request->method,
                                         .url = url,
                                         .headers = (const char *[]){ "Content-Type: application/json",
                                                                      "Accept: application/json", first, second, NULL },
                                         .body = request->body,
                                         .timeout_ms = saga_timeout(saga, CALL_TIMEOUT),
                                 },
                                 api_reply_arrived, saga);
        return saga_await(saga, api_answered);
}

static enum step_result api_turn_answered(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct supabase_request *request = activity_of(saga)->work;
        auto_free char *budget = api_budget_name(request->endpoint);
        int64_t wait = err ? 0 : rate_budget_wait(saga, budget, rows);

        if (err == NULL && wait == 0)
                return api_send_now(saga);
        api_free_request(activity_end_work(activity_of(saga)));
        return err != NULL ? saga_retry(saga, err) : saga_wait(saga, wait);
}

static enum step_result api_ask_for_turn(struct saga *saga, const char *endpoint)
{
        auto_free char *name = api_budget_name(endpoint);
        const struct rate_budget budget = {
                .name = name,
                .per_minute = activity_of(saga)->provisioner->config->supabase_rate,
                .most_at_once = AT_ONCE,
        };

        return rate_budget_ask(saga, &budget, api_turn_answered);
}

enum step_result supabase_call(struct saga *saga, const struct supabase_call *call, saga_then then)
{
        struct activity *activity = activity_of(saga);
        struct supabase_request *request = NEW(struct supabase_request);
        const char *refused = json_text(saga_data(saga), "service_key");

        if (call->auth && refused != NULL && strcmp(refused, "refused") == 0) {
                free(call->path);
                json_decref(call->body);
                free(request);
                return supabase_renew_key(saga);
        }
        activity_begin_work(activity, request, api_free_request);
        request->endpoint = mem_copy_text(call->endpoint);
        request->method = mem_copy_text(call->method);
        request->path = call->path;
        request->auth = call->auth;
        request->then = then;
        if (call->body != NULL)
                request->body = json_print(call->body);
        json_decref(call->body);
        if (call->auth || call->covered)
                return api_send_now(saga);
        return api_ask_for_turn(saga, request->endpoint);
}

const char *supabase_ref(const struct activity *activity)
{
        return activity_database(activity, "project_ref");
}
