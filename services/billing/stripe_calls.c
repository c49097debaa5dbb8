/* How the steps of a saga ask Stripe: see stripe_calls.h. */
#include "services/billing/stripe_calls.h"

#include "common/base/failpoint.h"
#include "common/base/keyring.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/contracts/stripe_event.h"
#include "common/durable/rate_budget.h"
#include "services/billing/outcome.h"
#include "services/billing/pause.h"

#include <string.h>

#define CALL_TIMEOUT SECONDS(20)
#define AGAIN_MOST   3
#define PATIENCE     SECONDS(10) /* for a turn, with the saga in hand */

static const char SQL_FREEZE[] = "select method, path, params::text as params, key, is_stale, void "
                                 "from freeze_call($1::uuid, $2::bigint, $3, $4, $5, $6::jsonb)";
static const char SQL_SPEND[] = "select spend_call($1::uuid, $2::bigint, $3)";
static const char SQL_FORGET[] = "select forget_calls($1::uuid, $2::bigint)";
static const char SQL_KEEP[] = "select keep_answers($1::uuid, $2::bigint, $3::jsonb, $4::bigint)";
static const char SQL_KEEP_LINK[] = "select keep_link($1::uuid, $2::bigint, $3)";

struct stripe_asking {
        char *name, *method, *path, *key; /* name NULL: it only looks */
        json_t *params;
        stripe_then then;
        struct stripe_request *request; /* under way, or NULL */
        struct pause *pause;            /* until its turn, or NULL */
        int status;
};

static void calls_free(struct stripe_asking *asked)
{
        if (asked == NULL)
                return;
        stripe_api_cancel(asked->request);
        pause_cancel(asked->pause);
        free(asked->name);
        free(asked->method);
        free(asked->path);
        free(asked->key);
        json_decref(asked->params);
        free(asked);
}

struct work *work_of(struct saga *saga)
{
        struct work *work = saga_state(saga);

        CHECK_MAGIC(work, WORK_MAGIC);
        return work;
}

int work_open(struct saga *saga, const json_t *context, void **ret_state, struct err *err)
{
        struct work *work;

        if (!json_is_object(context))
                return err_set(err, ERR_INTERNAL, "tenant_unknown", "billing does not know the tenant");
        work = NEW(struct work);
        work->magic = WORK_MAGIC;
        work->saga = saga;
        work->billing = saga_service(saga)->state;
        work->facts = json_deep_copy(context);
        *ret_state = work;
        return 0;
}

void work_close(void *state)
{
        struct work *work = state;

        CHECK_MAGIC(work, WORK_MAGIC);
        calls_free(work->asked);
        json_decref(work->facts);
        json_decref(work->reply);
        json_decref(work->left);
        work->magic = 0;
        free(work);
}

/* The call. */

static enum step_result calls_give_up(struct saga *saga, enum step_result result)
{
        struct work *work = work_of(saga);

        calls_free(TAKE_PTR(work->asked));
        return result;
}

static enum step_result calls_spent(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct err busy;

        (void)rows;
        err_set(&busy, ERR_BUSY, "stripe_saved_failure", "Stripe has saved a failure of its own under the key");
        return calls_give_up(saga, saga_retry(saga, err ?: &busy));
}

static enum step_result calls_busy(struct saga *saga, const struct err *err)
{
        struct work *work = work_of(saga);
        const struct stripe_asking *asked = work->asked;

        if (asked->status == 429)
                rate_budget_keep_turn(saga, STRIPE_BUDGET);
        if (asked->name != NULL && stripe_is_saved_failure(asked->status, work->is_repeated))
                return saga_query(saga, SQL_SPEND, PARAMS(saga_id(saga), saga_fence(saga), asked->name), calls_spent);
        return calls_give_up(saga, saga_retry(saga, err));
}

static enum step_result calls_answered(struct saga *saga, const struct err *err)
{
        struct work *work = work_of(saga);
        stripe_then then = work->asked->then;
        auto_json *reply = NULL;

        if (err != NULL && err->class == ERR_BUSY)
                return calls_busy(saga, err);
        calls_free(TAKE_PTR(work->asked));
        if (err != NULL && err->class == ERR_AUTH)
                return saga_hold(saga, "stripe_key", err);
        reply = json_incref(work->reply);
        return then(saga, err ? NULL : reply, err);
}

static void calls_arrived(void *context, const struct stripe_reply *reply, const struct err *err)
{
        struct saga *saga = context;
        struct work *work = work_of(saga);

        outcome_note(work->billing->service, reply, err);
        if (work->asked->name != NULL)
                FAILPOINT(billing_after_call, NULL);
        work->asked->request = NULL; /* it is gone */
        work->asked->status = reply ? reply->status : 0;
        json_decref(work->reply);
        work->reply = reply ? json_incref((json_t *)(uintptr_t)reply->body) : NULL;
        work->date_s = reply && reply->date_s > 0 ? reply->date_s : json_number(work->facts, "now", 0);
        work->is_repeated = reply != NULL && reply->replayed;
        saga_resume(saga, err);
}

static enum step_result calls_send(struct saga *saga)
{
        struct work *work = work_of(saga);
        struct stripe_asking *asked = work->asked;
        struct err err;

        if (asked->name != NULL && FAILPOINT(billing_before_call, &err) < 0)
                return calls_give_up(saga, saga_retry(saga, &err));
        if (!saga_is_ours(saga))
                return calls_give_up(saga, saga_wait(saga, 1));
        asked->request = stripe_api_call(work->billing->service->transfers, &work->billing->account,
                                         &(struct stripe_call){ .method = asked->method,
                                                                .path = asked->path,
                                                                .params = asked->params,
                                                                .idempotency_key = asked->key,
                                                                .timeout_ms = saga_timeout(saga, CALL_TIMEOUT) },
                                         calls_arrived, saga);
        return saga_await(saga, calls_answered);
}

static enum step_result calls_ask_turn(struct saga *saga);

static void calls_turn_due(void *context)
{
        work_of(context)->asked->pause = NULL; /* it is gone */
        saga_resume(context, NULL);
}

static enum step_result calls_waited(struct saga *saga, const struct err *err)
{
        return err ? calls_give_up(saga, saga_retry(saga, err)) : calls_ask_turn(saga);
}

/* In hand, if it is not for long: a step that asks twice would begin anew at each wait, and use up the second call's
 * turn for the first one. As many of them as there are turns would wait for ever. */
static enum step_result calls_turn_came(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct work *work = work_of(saga);
        int64_t wait = err ? 0 : rate_budget_wait(saga, STRIPE_BUDGET, rows);

        if (err != NULL)
                return calls_give_up(saga, saga_retry(saga, err));
        if (wait == 0)
                return calls_send(saga);
        if (wait > PATIENCE)
                return calls_give_up(saga, saga_wait(saga, wait));
        work->asked->pause = pause_begin(work->billing->service, wait, calls_turn_due, saga);
        return saga_await(saga, calls_waited);
}

/* The same rate as the fetcher has: half of it at once, the other half in each second. */
static enum step_result calls_ask_turn(struct saga *saga)
{
        int64_t per_second = work_of(saga)->billing->config->calls_per_second;
        const struct rate_budget budget = {
                .name = STRIPE_BUDGET,
                .per_minute = MAX(2, 30 * per_second + per_second / 2),
                .most_at_once = MAX(1, per_second / 2),
        };

        return rate_budget_ask(saga, &budget, calls_turn_came);
}

/* Ids become part of it as they are. */
static bool calls_is_path(const char *path)
{
        return path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/")] == '\0' &&
               strstr(path, "//") == NULL && path[strlen(path) - 1] != '/';
}

/* Without a key there is nothing to ask; another process may have one. */
static enum step_result calls_begin(struct saga *saga, struct stripe_asking *asked)
{
        struct work *work = work_of(saga);
        struct err none;

        assert(work->asked == NULL);
        work->asked = asked;
        if (!calls_is_path(asked->path)) {
                err_set(&none, ERR_PERMANENT, "stripe_id", "%.200s is no place at Stripe", asked->path);
                return calls_give_up(saga, saga_fail(saga, &none));
        }
        if (work->billing->account.secret_key != NULL)
                return STEP_DONE;
        err_set(&none, ERR_BUSY, "stripe_not_configured", "there is no key of Stripe's (STRIPE_SECRET_KEY)");
        return calls_give_up(saga, saga_hold(saga, "stripe_not_configured", &none));
}

enum step_result stripe_look(struct saga *saga, char *path, json_t *params, stripe_then then)
{
        struct stripe_asking *asked = NEW(struct stripe_asking);
        enum step_result begun;

        asked->method = mem_copy_text("GET");
        asked->path = path;
        asked->params = params;
        asked->then = then;
        begun = calls_begin(saga, asked);
        return begun == STEP_DONE ? calls_ask_turn(saga) : begun;
}

/* The tenant was archived or deleted since this was asked for; or what was to end since it was is live again. */
static enum step_result calls_drop(struct saga *saga, const char *why)
{
        if (strcmp(why, "live") == 0)
                return STEP_DONE;
        return work_refuse(saga, "tenant_archived", NULL, NULL, "the tenant was archived or deleted meanwhile");
}

static enum step_result calls_frozen(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct stripe_asking *asked = work_of(saga)->asked;
        const char *params;
        struct err bad;

        if (err != NULL)
                return calls_give_up(saga, saga_retry(saga, err));
        if (pg_bool(rows, 0, "is_stale")) {
                log_warn("a call to Stripe may have been carried out, and its key is of no use: looking first",
                         "tenant", saga_tenant(saga), "call", asked->name, NULL);
                return calls_give_up(saga, STEP_RESTART);
        }
        if (pg_text(rows, 0, "void") != NULL)
                return calls_give_up(saga, calls_drop(saga, pg_text(rows, 0, "void")));
        params = pg_text(rows, 0, "params");
        json_decref(TAKE_PTR(asked->params));
        if (json_parse(params, strlen(params), &asked->params, &bad) < 0)
                return calls_give_up(saga, saga_retry(saga, &bad));
        free(asked->method);
        free(asked->path);
        asked->method = mem_copy_text(pg_text(rows, 0, "method"));
        asked->path = mem_copy_text(pg_text(rows, 0, "path"));
        asked->key = mem_copy_text(pg_text(rows, 0, "key"));
        FAILPOINT(billing_after_freeze, NULL);
        return calls_ask_turn(saga);
}

enum step_result stripe_change(struct saga *saga, const char *name, const char *method, char *path, json_t *params,
                               stripe_then then)
{
        struct stripe_asking *asked = NEW(struct stripe_asking);
        auto_free char *text = NULL;
        enum step_result begun;

        asked->name = mem_copy_text(name);
        asked->method = mem_copy_text(method);
        asked->path = path;
        asked->params = params ?: json_object();
        asked->then = then;
        begun = calls_begin(saga, asked);
        if (begun != STEP_DONE)
                return begun;
        text = json_print(asked->params);
        return saga_query(saga, SQL_FREEZE,
                          PARAMS(saga_id(saga), saga_fence(saga), asked->name, asked->method, asked->path, text),
                          calls_frozen);
}

/* What comes of it. */

bool stripe_was_made_before(struct saga *saga, const struct err *err)
{
        if (err != NULL)
                return strcmp(err->code, "stripe_idempotency_error") == 0;
        return work_of(saga)->is_repeated;
}

static enum step_result calls_kept(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(billing_after_keep, NULL);
        return work_of(saga)->next(saga);
}

enum step_result stripe_keep(struct saga *saga, json_t *objects, enum step_result (*next)(struct saga *saga))
{
        struct work *work = work_of(saga);
        auto_json *taken = objects, *read = json_array();
        auto_free char *text = NULL, *date = mem_printf("%lld", work->is_repeated ? 0LL : (long long)work->date_s);
        const json_t *object;
        struct err odd;
        size_t i;

        json_array_foreach (taken, i, object) {
                json_t *each = NULL;

                if (stripe_object_read(object, &each, &odd) < 0)
                        return saga_fail(saga, &odd);
                json_array_append_new(read, each);
        }
        work->next = next;
        text = json_print(read);
        return saga_query(saga, SQL_KEEP, PARAMS(saga_id(saga), saga_fence(saga), text, date), calls_kept);
}

enum step_result stripe_keep_one(struct saga *saga, const json_t *object)
{
        return stripe_keep(saga, json_pack("[O]", object), work_done);
}

enum step_result stripe_keep_link(struct saga *saga, const char *url, enum step_result (*next)(struct saga *saga))
{
        struct work *work = work_of(saga);
        auto_free char *sealed = keyring_seal(work->billing->app_keys, saga_tenant(saga), "billing_link", 0, url);

        work->next = next;
        return saga_query(saga, SQL_KEEP_LINK, PARAMS(saga_id(saga), saga_fence(saga), sealed), calls_kept);
}

void work_result(struct saga *saga, json_t *result)
{
        json_object_set_new(saga_data(saga), "result", result);
}

enum step_result work_refuse(struct saga *saga, const char *code, const char *field, json_t *more, const char *detail)
{
        json_t *refused = json_object();
        struct err err;

        json_set_text(refused, "field", field);
        json_object_set_new(refused, "more", more ?: json_object());
        json_object_set_new(saga_data(saga), "refused", refused);
        err_set(&err, ERR_PERMANENT, code, "%s", detail);
        return saga_fail(saga, &err);
}

static enum step_result calls_forgotten(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : STEP_RESTART;
}

enum step_result work_again(struct saga *saga, const struct err *err)
{
        int64_t times = json_number(saga_data(saga), "again", 0);

        if (times >= AGAIN_MOST)
                return saga_fail(saga, err);
        json_object_set_new(saga_data(saga), "again", json_integer(times + 1));
        return saga_query(saga, SQL_FORGET, PARAMS(saga_id(saga), saga_fence(saga)), calls_forgotten);
}

enum step_result work_done(struct saga *saga)
{
        (void)saga;
        return STEP_DONE;
}
