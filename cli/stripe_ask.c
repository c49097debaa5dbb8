/* `tenantry stripe`: calls to Stripe that wait for their answer, and are tried again: see stripe.h. */
#include "cli/stripe.h"

#include "common/base/backoff.h"
#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define ATTEMPTS        5
#define BACKOFF_MOST_MS SECONDS(5)
#define WAIT_MOST_MS    SECONDS(60)
#define PAGE            100
#define PAGES_MOST      100

/* Where PUBLIC_URL leads Stripe. */
#define WEBHOOK_PATH "/api/webhooks/stripe"

static int ask_find_url(struct stripe_session *session, const char *url)
{
        const char *public = cli_setting("PUBLIC_URL");
        struct err err;

        if (url == NULL && public == NULL)
                return EXIT_GOOD;
        session->url = url ? mem_copy_text(url)
                           : mem_printf("%.*s" WEBHOOK_PATH,
                                        (int)(strlen(public) - (public[strlen(public) - 1] == '/')), public);
        if (config_check_url(url ? "--endpoint" : "PUBLIC_URL", session->url, &err) < 0)
                return cli_fail(EXIT_USAGE, "%s", err.message);
        return EXIT_GOOD;
}

int stripe_open(struct stripe_session *session, const char *url)
{
        const struct config_table tables[] = {
                config_at(&STRIPE_OPTIONS, offsetof(struct stripe_options, stripe)),
                config_at(&PLAN_OPTIONS, offsetof(struct stripe_options, plans)),
        };
        struct err err;

        memset(session, 0, sizeof(*session));
        if (config_load(&session->options, tables, ARRAY_SIZE(tables), &err) < 0)
                return cli_fail(EXIT_USAGE, "%s", err.message);
        if (session->options.stripe.secret_key == NULL)
                return cli_fail(EXIT_USAGE, "STRIPE_SECRET_KEY is not set (see: tenantry stripe --help)");
        if (plans_load(session->options.plans.plans, &session->plans, &err) < 0)
                return cli_fail(EXIT_USAGE, "%s", err.message);
        session->account = (struct stripe_account){ .url = session->options.stripe.api_url,
                                                    .secret_key = session->options.stripe.secret_key };
        session->live = stripe_config_is_live(&session->options.stripe);
        if (uv_loop_init(&session->loop) < 0)
                abort();
        uv_timer_init(&session->loop, &session->alive);
        session->transfers = transfers_new(&session->loop);
        return ask_find_url(session, url);
}

void stripe_close(struct stripe_session *session)
{
        if (session->transfers != NULL) {
                transfers_free(session->transfers);
                uv_close((uv_handle_t *)&session->alive, NULL);
                uv_run(&session->loop, UV_RUN_DEFAULT);
                uv_loop_close(&session->loop);
        }
        plans_free(session->plans);
        mem_free_secret(session->options.stripe.secret_key);
        free(session->options.stripe.api_url);
        free(session->options.plans.plans);
        free(session->url);
}

/* One call, from its request to its answer. */
struct ask {
        bool answered, replayed;
        int64_t date_s;
        json_t *body;
        struct err err;
        int rc;
};

static void ask_answered(void *context, const struct stripe_reply *reply, const struct err *err)
{
        struct ask *ask = context;

        ask->answered = true;
        ask->rc = err ? -(int)err->class : 0;
        if (err != NULL)
                ask->err = *err;
        if (reply == NULL)
                return;
        ask->date_s = reply->date_s;
        ask->replayed = reply->replayed;
        if (err == NULL)
                ask->body = json_incref((json_t *)reply->body);
}

static void ask_still_waiting(uv_timer_t *timer)
{
        (void)timer;
}

static void ask_once(struct stripe_session *session, const struct stripe_call *call, struct ask *ask)
{
        *ask = (struct ask){ 0 };
        stripe_api_call(session->transfers, &session->account, call, ask_answered, ask);
        uv_timer_start(&session->alive, ask_still_waiting, SECONDS(1), SECONDS(1));
        while (!ask->answered)
                uv_run(&session->loop, UV_RUN_ONCE);
        uv_timer_stop(&session->alive);
        if (ask->date_s > 0)
                session->date_s = ask->date_s;
}

static void ask_pause(int64_t ms)
{
        struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

        nanosleep(&pause, NULL);
}

/* A POST keeps its key through all attempts, so that none of them does anything twice. Stripe keeps failures for a day,
 * too: one that it repeats will not get better. It counts as repeated only if the first attempt found it so. */
static int ask_until_answered(struct stripe_session *session, const struct stripe_call *call, struct ask *ask)
{
        for (int attempt = 0;; attempt++) {
                unsigned random;
                int64_t wait;

                ask_once(session, call, ask);
                crypto_random(&random, sizeof(random));
                wait = MAX(ask->err.retry_after, MIN(backoff_ms(attempt, random), BACKOFF_MOST_MS));
                if (ask->rc == -ERR_BUSY && !ask->replayed && attempt + 1 < ATTEMPTS && wait <= WAIT_MOST_MS) {
                        ask_pause(wait);
                        continue;
                }
                ask->replayed &= ask->rc == 0 || attempt == 0;
                return ask->rc;
        }
}

static int ask_for(struct stripe_session *session, const struct stripe_call *call, json_t **ret, bool *ret_replayed,
                   struct err *err)
{
        struct ask ask;
        int rc = ask_until_answered(session, call, &ask);

        if (ret_replayed != NULL)
                *ret_replayed = ask.replayed;
        if (rc < 0) {
                *err = ask.err;
                return rc;
        }
        if (ret != NULL)
                *ret = ask.body;
        else
                json_decref(ask.body);
        return 0;
}

int stripe_get(struct stripe_session *session, const char *path, json_t *params, json_t **ret, struct err *err)
{
        int rc = ask_for(session, &(struct stripe_call){ .method = "GET", .path = path, .params = params }, ret, NULL,
                         err);

        json_decref(params);
        return rc;
}

int stripe_list(struct stripe_session *session, const char *path, json_t *params, json_t **ret, struct err *err)
{
        auto_json *asked = params ? params : json_object(), *all = json_array();
        bool more = true;

        json_object_set_new(asked, "limit", json_integer(PAGE));
        for (int page = 0; more && page < PAGES_MOST; page++) {
                auto_json *body = NULL;
                const json_t *data;
                int rc = stripe_get(session, path, json_incref(asked), &body, err);

                if (rc < 0)
                        return rc;
                data = json_object_get(body, "data");
                json_array_extend(all, (json_t *)data);
                more = json_flag(body, "has_more") && json_array_size(data) > 0;
                if (more)
                        json_object_set(asked, "starting_after",
                                        json_object_get(json_array_get(data, json_array_size(data) - 1), "id"));
        }
        *ret = TAKE_PTR(all);
        return 0;
}

char *stripe_key(const char *path, const json_t *params, int n)
{
        auto_free char *form = stripe_api_encode(params), *content = mem_printf("%s\n%s\n%d", path, form, n),
                       *hex = NULL;
        struct crypto_digest digest;

        crypto_sha256(content, strlen(content), &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        return mem_printf("tenantry-%.40s", hex);
}

int stripe_change(struct stripe_session *session, const char *path, json_t *params, json_t **ret, struct err *err)
{
        auto_json *taken = params;
        auto_free char *once = crypto_random_password(32), *key = mem_printf("tenantry-%s", once);
        const struct stripe_call call = { .method = "POST", .path = path, .params = taken, .idempotency_key = key };

        return ask_for(session, &call, ret, NULL, err);
}

int stripe_create_as(struct stripe_session *session, const char *path, const json_t *wanted, int n, json_t **ret,
                     bool *ret_replayed, struct err *err)
{
        auto_free char *key = stripe_key(path, wanted, n);
        auto_json *params = json_deep_copy(wanted);
        const struct stripe_call call = { .method = "POST", .path = path, .params = params, .idempotency_key = key };

        json_object_set_new(json_object_get(params, "metadata"), STRIPE_REQUEST, json_string(key));
        return ask_for(session, &call, ret, ret_replayed, err);
}

/* Whether what an earlier request made is still there. */
static int ask_whether_there(struct stripe_session *session, const char *path, const json_t *object, bool *ret,
                             struct err *err)
{
        auto_free char *one = stripe_path(path, object);
        auto_json *now = NULL;
        int rc = stripe_get(session, one, NULL, &now, err);

        *ret = rc == 0 && !json_flag(now, "deleted");
        return rc == -ERR_GONE ? 0 : rc;
}

/* What an earlier run failed to make is not there, or that run's successor would not want to make it. */
static int ask_create_generation(struct stripe_session *session, const char *path, const json_t *wanted, int n,
                                 json_t **ret, struct err *err)
{
        auto_json *made = NULL;
        bool replayed = false, there = true;
        int rc = stripe_create_as(session, path, wanted, n, &made, &replayed, err);

        if (rc < 0)
                return replayed ? 0 : rc;
        if (replayed)
                rc = ask_whether_there(session, path, made, &there, err);
        if (rc == 0 && there)
                *ret = TAKE_PTR(made);
        return rc;
}

int stripe_create(struct stripe_session *session, const char *path, json_t *wanted, json_t **ret, struct err *err)
{
        auto_json *taken = wanted;

        *ret = NULL;
        for (int n = 0; n < STRIPE_GENERATIONS; n++) {
                int rc = ask_create_generation(session, path, taken, n, ret, err);

                if (rc < 0 || *ret != NULL)
                        return rc;
        }
        return err_set(err, ERR_PERMANENT, "stripe_made_too_often",
                       "the same was made, and deleted or failed, %d times within a day: wait for a day",
                       STRIPE_GENERATIONS);
}

int stripe_delete(struct stripe_session *session, const char *path, struct err *err)
{
        int rc = ask_for(session, &(struct stripe_call){ .method = "DELETE", .path = path }, NULL, NULL, err);

        return rc == -ERR_GONE ? 0 : rc; /* an attempt whose answer was lost */
}

char *stripe_path(const char *path, const json_t *object)
{
        return mem_printf("%s/%s", path, json_text(object, "id") ?: "none");
}

int stripe_complain(const struct err *err, const char *what)
{
        auto_json *more = json_pack("{s:s}", "code", err->code);

        if (err->class == ERR_AUTH)
                return cli_fail_with(EXIT_REFUSED, more,
                                     "%s: Stripe refuses the key, or it lacks a right (docs/security.md): %s", what,
                                     err->message);
        return cli_fail_with(err->class == ERR_BUSY ? EXIT_AWAY : EXIT_FAILED, more, "%s: %s", what, err->message);
}
