/* Calls to Supabase: see supabase_api.h. */
#include "services/provisioner/supabase_api.h"

#include "common/base/clock.h"
#include "common/base/memory.h"

#include <string.h>

#define CALL_TIMEOUT  SECONDS(15)
#define QUOTA_DELAY   SECONDS(60)
#define BLOCK_DEFAULT SECONDS(10)
#define TURN_KEEPS    "1000" /* ms */
#define TURN_EARLY    50     /* timers are not exact */
#define AT_ONCE       5.0

static const char SQL_TAKE[] = "select wait_ms, place, false as first"
                               " from catalog.take_token($1, $2::float8, $3::float8)";

static const char SQL_USE_TURN[] =
        "select wait_ms, place, first"
        " from catalog.use_turn($1, $2::float8, $3::float8, $4::timestamptz, $5::boolean, $6::bigint)";

static const char SQL_BLOCK[] = "select catalog.block_budget($1, $2::bigint)";

/* A call between the wish and its answer: the activity's work. */
struct supabase_request {
        char *endpoint, *method, *path, *body;
        bool auth;
        saga_then then;
        struct http_exchange *exchange; /* sent, or NULL */
};

static void free_request(void *work)
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

static void block_done(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        (void)err; /* the limit was told to us; without the catalog nobody calls anyway */
}

static char *budget_name(const char *endpoint)
{
        return mem_printf("supabase:%s", endpoint);
}

/* Everybody waits, not only this saga: the limit is the account's. */
static void block_budget(struct activity *activity, const char *endpoint, int64_t ms)
{
        auto_free char *name = budget_name(endpoint), *text = mem_printf("%lld", (long long)ms);

        pg_pool_exec(activity->provisioner->service->catalog, SECONDS(5), SQL_BLOCK, PARAMS(name, text), block_done,
                     NULL);
}

static void reply_arrived(void *context, const struct http_reply *reply, const struct err *err)
{
        struct saga *saga = context;
        struct activity *activity = activity_of(saga);

        ((struct supabase_request *)activity->work)->exchange = NULL;
        json_decref(activity->reply);
        activity->reply = NULL;
        activity->reply_status = err ? 0 : reply->status;
        activity->reply_retry_after = err ? 0 : reply->retry_after_ms;
        if (err == NULL && json_parse(reply->body, reply->length, &activity->reply, NULL) < 0)
                activity->reply = NULL;
        saga_resume(saga, err);
}

/* The place in the queue of an endpoint; `due` is when it is worth while to ask whether the turn has come. */
static void keep_turn(struct saga *saga, const char *endpoint, int64_t due, const char *place, bool first)
{
        json_t *data = saga_data(saga);

        if (json_object_get(data, "turns") == NULL)
                json_object_set_new(data, "turns", json_object());
        json_object_set_new(json_object_get(data, "turns"), endpoint,
                            json_pack("{s:I, s:s, s:b}", "due", (json_int_t)due, "place", place, "first", first));
}

static enum step_result answered(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct supabase_request *request = activity_end_work(activity);
        saga_then then = request->then;
        struct err limited;

        if (err == NULL && activity->reply_status == 429) {
                err_set(&limited, ERR_BUSY, "rate_limited", "Supabase limits our requests to %s", request->endpoint);
                limited.retry_after = activity->reply_retry_after ? activity->reply_retry_after : BLOCK_DEFAULT;
                block_budget(activity, request->endpoint, limited.retry_after);
                keep_turn(saga, request->endpoint, 0, "-infinity",
                          false); /* it has waited: not again behind all the others */
                free_request(request);
                return saga_retry(saga, &limited);
        }
        free_request(request);
        return then(saga, err);
}

/* sb_secret_ keys go into apikey only; the older keys are tokens as well. */
static int auth_headers(const struct activity *activity, char **ret_apikey, char **ret_bearer, struct err *err)
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

static enum step_result send_now(struct saga *saga)
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
                rc = auth_headers(activity, &first, &second, &err);
        else
                first = mem_printf("Authorization: Bearer %s", config->supabase_token);
        if (rc < 0 || !saga_is_ours(saga)) {
                free_request(activity_end_work(activity));
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
                                 reply_arrived, saga);
        return saga_await(saga, answered);
}

static enum step_result token_arrived(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct supabase_request *request = activity->work;
        int64_t wait;

        if (err != NULL) {
                free_request(activity_end_work(activity));
                return saga_retry(saga, err);
        }
        wait = pg_int(rows, 0, "wait_ms");
        if (wait <= TURN_EARLY)
                return send_now(saga);
        keep_turn(saga, request->endpoint, clock_wall_ms() + wait, pg_text(rows, 0, "place"),
                  pg_bool(rows, 0, "first"));
        free_request(activity_end_work(activity));
        return saga_wait(saga, wait);
}

/* How long until the turn that was handed out; 0 = now, or there is none. */
static int64_t wait_for_turn(const json_t *turns, const char *endpoint)
{
        const json_t *turn = json_object_get(turns, endpoint);

        return MAX(0, json_integer_value(json_object_get(turn, "due")) - TURN_EARLY - clock_wall_ms());
}

/* Asks for a turn; whoever had one shows its place, for the queue may have been held up since. */
static enum step_result ask_for_turn(struct saga *saga, json_t *turns, const char *endpoint)
{
        const json_t *turn = json_object_get(turns, endpoint);
        const char *first = json_flag(turn, "first") ? "true" : "false";
        double per_minute = (double)activity_of(saga)->provisioner->config->supabase_rate;
        double at_once = MAX(1.0, MIN(AT_ONCE, per_minute / 2));
        /* The provider counts by the minute, wherever that begins: what goes at once and what is refilled within a
         * minute are together no more than the limit. */
        auto_free char *budget = budget_name(endpoint), *burst = mem_printf("%.3f", at_once),
                       *rate = mem_printf("%.6f", MAX(per_minute - at_once, per_minute / 2) / 60),
                       *place = mem_copy_text(json_text(turn, "place"));

        json_object_del(turns, endpoint);
        if (place == NULL)
                return saga_query(saga, SQL_TAKE, PARAMS(budget, burst, rate), token_arrived);
        return saga_query(saga, SQL_USE_TURN, PARAMS(budget, burst, rate, place, first, TURN_KEEPS), token_arrived);
}

enum step_result supabase_call(struct saga *saga, const struct supabase_call *call, saga_then then)
{
        struct activity *activity = activity_of(saga);
        struct supabase_request *request = NEW(struct supabase_request);
        json_t *turns = json_object_get(saga_data(saga), "turns");

        activity_begin_work(activity, request, free_request);
        request->endpoint = mem_copy_text(call->endpoint);
        request->method = mem_copy_text(call->method);
        request->path = call->path;
        request->auth = call->auth;
        request->then = then;
        if (call->body != NULL)
                request->body = json_print(call->body);
        json_decref(call->body);
        if (call->auth || call->covered)
                return send_now(saga);
        if (wait_for_turn(turns, call->endpoint) > 0) { /* somebody woke us early */
                free_request(activity_end_work(activity));
                return saga_wait(saga, wait_for_turn(turns, call->endpoint));
        }
        return ask_for_turn(saga, turns, request->endpoint);
}

static bool mentions(const char *text, const char *const *words)
{
        for (; *words != NULL; words++)
                if (strcasestr(text, *words) != NULL)
                        return true;
        return false;
}

void supabase_error(const struct activity *activity, struct err *err)
{
        static const char *const quota[] = { "limit", "quota", "maximum", NULL }, *const capacity[] = { "capacity",
                                                                                                        NULL };
        const char *message = json_text(activity->reply, "message");
        int status = activity->reply_status;

        if (message == NULL)
                message = json_text(activity->reply, "msg");
        if (message == NULL)
                message = "no message";
        if (status >= 200 && status < 300) /* something between us and Supabase, or a change of their API */
                err_set(err, ERR_BUSY, "provider_answer", "Supabase's answer (%d) is not as documented", status);
        else if (status == 0 || status >= 500)
                err_set(err, ERR_BUSY, "provider_trouble", "Supabase answers %d: %.200s", status, message);
        else if (status == 401 || status == 403)
                err_set(err, ERR_AUTH, "provider_auth", "Supabase refuses our token (%d): %.200s", status, message);
        else if (status == 402)
                err_set(err, ERR_BUSY, "provider_billing", "Supabase wants to be paid first (402): %.200s", message);
        else if (mentions(message, capacity))
                err_set(err, ERR_BUSY, "provider_capacity", "Supabase has no room in the region: %.200s", message);
        else if (mentions(message, quota))
                err_set(err, ERR_BUSY, "provider_quota", "the organization's quota is full: %.200s", message);
        else if (status == 404)
                err_set(err, ERR_GONE, "provider_not_found", "Supabase does not know it (404): %.200s", message);
        else if (status == 409)
                err_set(err, ERR_CONFLICT, "provider_conflict", "Supabase says 409: %.200s", message);
        else
                err_set(err, ERR_PERMANENT, "provider_refused", "Supabase refuses the request (%d): %.200s", status,
                        message);
        if (strcmp(err->code, "provider_quota") == 0 || strcmp(err->code, "provider_billing") == 0)
                err->retry_after = QUOTA_DELAY;
}

enum step_result supabase_refuse(struct saga *saga)
{
        struct err err;

        supabase_error(activity_of(saga), &err);
        return saga_retry(saga, &err);
}

enum step_result supabase_refuse_for_now(struct saga *saga)
{
        struct err err;

        supabase_error(activity_of(saga), &err);
        if (err.class == ERR_GONE)
                err.class = ERR_BUSY;
        return saga_retry(saga, &err);
}

const char *supabase_ref(const struct activity *activity)
{
        return activity_database(activity, "project_ref");
}
