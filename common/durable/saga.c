/* The life of one saga in hand: its step runs, saga_rules decides what follows, the decision is stored, the next step
 * begins.
 *
 * Claim: saga_engine asks the catalog for a row that is due; from then on the row names us as its owner. Lease: the
 * claim is valid until lease_until, counted on our clock from before we asked, so that it expires here before it
 * expires in the catalog; the engine renews it after each third of its length. A process that was frozen finds its
 * lease expired (saga_is_ours) and drops the saga without storing anything. Fence: each claim has a number higher than
 * all before it. The catalog accepts a result, and a tenant's database a statement, only with the highest fence it has
 * seen, so anything a former owner sends late changes nothing. An outside call never outlasts the lease (saga_timeout).
 *
 * The struct lives from saga_begin to saga_let_go, however often its step changes. A caller that runs a step, or stores
 * its result, must not touch the struct afterwards: it may have been freed. */
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/saga_private.h"

#include <string.h>
#include <utlist.h>

#define STORE_RETRY 300
#define CRASH_LIMIT 10

static const char SQL_ADVANCE[] = "select saga_advance($1::uuid, $2::bigint, $3, $4, $5, $6::int, $7::jsonb, "
                                  "$8::jsonb, $9::bigint, $10::boolean) as cancel";

static const char SQL_PARK[] =
        "select saga_park($1::uuid, $2::bigint, $3::jsonb, $4::bigint, $5::boolean, $6::jsonb, $7::boolean)";

static const char SQL_HOLD[] =
        "select saga_hold($1::uuid, $2::bigint, $3::jsonb, $4::bigint, $5::jsonb, $6::boolean, $7)";

static const char SQL_END[] = "select saga_end($1::uuid, $2::bigint, $3, $4, $5::jsonb, $6::jsonb)";

static void saga_run(struct saga *saga);
static void saga_store(struct saga *saga);
static void saga_on_store_again(uv_timer_t *timer);

static const unsigned WAYS[] = {
        [SAGA_CLAIMED] = 1U << SAGA_IN_STEP | 1U << SAGA_STORING | 1U << SAGA_GONE,
        [SAGA_IN_STEP] = 1U << SAGA_ANSWERED | 1U << SAGA_CALLING | 1U << SAGA_STORING | 1U << SAGA_GONE,
        [SAGA_ANSWERED] = 1U << SAGA_IN_STEP | 1U << SAGA_STORING | 1U << SAGA_GONE,
        [SAGA_CALLING] = 1U << SAGA_IN_STEP | 1U << SAGA_STORING | 1U << SAGA_GONE,
        [SAGA_STORING] = 1U << SAGA_CLAIMED | 1U << SAGA_GONE,
        [SAGA_GONE] = 0,
};

void saga_enter(struct saga *saga, enum saga_state next)
{
        assert((WAYS[saga->state] & 1U << next) != 0);
        saga->state = next;
}

static void saga_on_closed(uv_handle_t *handle)
{
        struct saga *saga = handle->data;

        free(saga->id);
        free(saga->tenant);
        free(saga->fence);
        json_decref(saga->data);
        json_decref(saga->error);
        saga->magic = 0;
        free(saga);
}

/* Frees the saga, whatever its row says: its lease will expire, or we claim it again. */
void saga_let_go(struct saga *saga)
{
        struct saga_engine *engine = saga->engine;

        saga_enter(saga, SAGA_GONE);
        DL_DELETE(engine->sagas, saga);
        engine->held--;
        engine->held_background -= saga->background;
        metric_set(engine->in_hand, (double)engine->held);
        if (saga->opened && saga->kind->close != NULL)
                saga->kind->close(saga->shared);
        uv_close((uv_handle_t *)&saga->store_again, saga_on_closed);
}

void saga_drop(struct saga *saga, const char *why)
{
        log_warn("a saga is no longer ours", "tenant", saga->tenant, "saga", saga->id, "why", why, NULL);
        metric_add(saga->engine->lost, 1);
        saga_let_go(saga);
}

static void saga_count_time(struct saga *saga)
{
        saga->at.step_age_ms += clock_boot_ms() - saga->step_began;
        saga->step_began = clock_boot_ms();
}

static enum step_result saga_fail_with(struct saga *saga, const char *code, const char *detail)
{
        struct err err;
        const char *last = json_text(saga->error, "detail");

        err_set(&err, ERR_PERMANENT, code, "%s%s%.250s", detail, last ? "; last: " : "", last ? last : "");
        return saga_fail(saga, &err);
}

static bool saga_must_turn_back(const struct saga *saga)
{
        return saga->cancel_wanted && saga_may_cancel(saga->kind, &saga->at);
}

static enum step_result saga_turn_back(struct saga *saga)
{
        saga->at.cancelled = true;
        return saga_fail_with(saga, "cancelled", "it was cancelled by a later command");
}

/* The step is not done: before it is put down, checks whether there is a reason not to resume it. A step is overdue
 * only after an attempt: the time may have passed while nobody could work on it. A held step is never late. */
static enum step_result saga_turn_back_or(struct saga *saga, enum step_result result)
{
        saga_count_time(saga);
        if (saga_must_turn_back(saga))
                return saga_turn_back(saga);
        if (result != STEP_HOLD && saga_is_overdue(saga->kind, &saga->at))
                return saga_fail_with(saga, "step_timeout", "the step did not finish within its time limit");
        return result;
}

void saga_want_cancelled(struct saga *saga)
{
        if (saga->cancel_wanted)
                return;
        saga->cancel_wanted = true;
        if (saga_must_turn_back(saga))
                saga_interrupt(saga);
}

void saga_interrupt(struct saga *saga)
{
        if (saga->opened && saga->kind->interrupt != NULL)
                saga->interrupted = saga->kind->interrupt(saga->shared);
}

static void saga_count_failure(const struct saga *saga, enum step_result result)
{
        const char *code = json_text(saga->error, "code");

        metric_add(METRIC_OF(saga->engine->failures, saga->kind->name, saga->kind->steps[saga->at.step].name,
                             code ? code : "unknown",
                             result == STEP_FAIL   ? "failed"
                             : result == STEP_HOLD ? "held"
                                                   : "retried"),
                   1);
}

static void saga_tell_result(const struct saga *saga, enum step_result result)
{
        const char *step = saga->kind->steps[saga->at.step].name;
        bool failed = result == STEP_RETRY || result == STEP_HOLD || result == STEP_FAIL;

        if (failed)
                saga_count_failure(saga, result);
        if (failed)
                log_warn(result == STEP_FAIL   ? "a step failed"
                         : result == STEP_HOLD ? "a step waits until somebody fixes the cause"
                                               : "a step will be tried again",
                         "tenant", saga->tenant, "activity", saga->kind->name, "step", step, "code",
                         json_text(saga->error, "code"), "error", json_text(saga->error, "detail"), NULL);
        else
                log_debug("a step ended", "tenant", saga->tenant, "activity", saga->kind->name, "step", step, "result",
                          result == STEP_DONE ? "done" : "wait", NULL);
}

/* A step function has returned: either its outside call is under way, or there is a result to store. */
void saga_settle(struct saga *saga, enum step_result result)
{
        bool doubtful = result == STEP_RETRY || result == STEP_HOLD; /* the last call may still reach its destination */

        if (result == STEP_PENDING && saga->state == SAGA_ANSWERED) {
                saga_go_on(saga);
                return;
        }
        saga_enter(saga, result == STEP_PENDING ? SAGA_CALLING : SAGA_STORING);
        if (result == STEP_PENDING)
                return;
        if (saga->opened && (result == STEP_WAIT || result == STEP_RETRY || result == STEP_HOLD))
                result = saga_turn_back_or(saga, result);
        saga_tell_result(saga, result);
        crypto_random(&saga->at.random, sizeof(saga->at.random));
        saga->decision = saga_decide(saga->kind, &saga->at, result, saga->wait_ms);
        saga->attempt_failed = result == STEP_RETRY || result == STEP_HOLD;
        if (result != STEP_HOLD)
                saga->held_for = NULL;
        saga->wait_ms = 0;
        if (saga->interrupted && saga->decision.move == SAGA_PARK) { /* we are stopping: another continues at once */
                saga->decision.delay_ms = 0;
                saga->attempt_failed = false;
        }
        saga->interrupted = false;
        if (!saga_is_ours(saga)) {
                saga_drop(saga, "the lease expired");
                return;
        }
        if (doubtful && saga->decision.move == SAGA_UNDO) /* an undo must not overtake it */
                uv_timer_start(&saga->store_again, saga_on_store_again, SAGA_CALL_TAIL, 0);
        else
                saga_store(saga);
}

static bool saga_is_background(const struct saga *saga, size_t step)
{
        const char *background = saga->kind->background;

        return background != NULL && strcmp(background, saga->kind->steps[step].name) == 0;
}

static void saga_enter_step(struct saga *saga, bool cancel_wanted)
{
        saga_enter(saga, SAGA_CLAIMED);
        saga->at.step = saga->decision.to;
        saga->at.undoing = saga->decision.move == SAGA_UNDO;
        saga->at.attempt = 0;
        saga->at.step_age_ms = 0;
        saga->step_began = clock_boot_ms();
        saga->crashes = 0;
        saga->cancel_wanted = cancel_wanted;
        saga->engine->held_background -= saga->background;
        saga->background = saga_is_background(saga, saga->at.step);
        saga->engine->held_background += saga->background;
        saga_run(saga);
}

static void saga_on_store_again(uv_timer_t *timer)
{
        saga_store(timer->data);
}

/* The catalog refuses the result of the step. The step is held as if its worker had died before it could store
 * anything, and finds out later what it had done; if even that cannot be stored, the saga stays in hand and retries at
 * growing intervals. */
static void saga_hold_instead(struct saga *saga, const struct err *err)
{
        int64_t delay = backoff_ms(saga->refusals, saga->at.random);

        log_error("the catalog refuses the result of a step", "tenant", saga->tenant, "activity", saga->kind->name,
                  "step", saga->kind->steps[saga->at.step].name, "error", err->message, NULL);
        if (saga->refusals++ > 0) {
                uv_timer_start(&saga->store_again, saga_on_store_again, (uint64_t)delay, 0);
                return;
        }
        saga_hold(saga, SAGA_CATALOG_REFUSES, err);
        saga->attempt_failed = true;
        saga->decision =
                (struct saga_decision){ .move = SAGA_PARK, .delay_ms = backoff_ms(saga->at.attempt, saga->at.random) };
        saga_store(saga);
}

static void saga_store_failed(struct saga *saga, const struct err *err)
{
        if (strcmp(err->code, "TN409") == 0 || !saga_is_ours(saga))
                saga_drop(saga, err->message);
        else if (err_is_transient(err))
                uv_timer_start(&saga->store_again, saga_on_store_again, STORE_RETRY, 0);
        else if (saga->engine->stopped)
                saga_drop(saga, err->message); /* the lease expires, and another worker tries */
        else
                saga_hold_instead(saga, err);
}

static void saga_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga *saga = context;
        struct saga_engine *engine = saga->engine;

        CHECK_MAGIC(saga, SAGA_MAGIC);
        if (err != NULL) {
                saga_store_failed(saga, err);
                return;
        }
        saga->refusals = 0;
        FAILPOINT(saga_after_advance, NULL);
        if (saga->decision.move == SAGA_ADVANCE || saga->decision.move == SAGA_UNDO) {
                saga->lease_until = saga->next_lease;
                saga_enter_step(saga, pg_bool(rows, 0, "cancel"));
                return;
        }
        if (saga->decision.move == SAGA_END)
                log_info("an activity ended", "tenant", saga->tenant, "activity", saga->kind->name, "outcome",
                         saga->decision.outcome, "code", json_text(saga->error, "code"), NULL);
        saga_let_go(saga);
        saga_engine_wake(engine);
}

static void saga_store_step(struct saga *saga, const char *data, const char *error, const char *lease)
{
        const struct saga_step *to = &saga->kind->steps[saga->decision.to];
        char progress[16];

        snprintf(progress, sizeof(progress), "%d", to->progress);
        saga->next_lease = clock_boot_ms() + strtoll(lease, NULL, 10);
        pg_pool_exec(saga->engine->service->catalog, saga_timeout(saga, SAGA_STATEMENT_TIMEOUT), SQL_ADVANCE,
                     PARAMS(saga->id, saga->fence, saga->kind->steps[saga->at.step].name, to->name,
                            saga->decision.move == SAGA_UNDO ? "undoing" : "running", progress, data, error, lease,
                            saga_is_background(saga, saga->decision.to) ? "true" : "false"),
                     saga_stored, saga);
}

static void saga_store(struct saga *saga)
{
        struct pg_pool *catalog = saga->engine->service->catalog;
        int64_t timeout = saga_timeout(saga, SAGA_STATEMENT_TIMEOUT);
        bool failed = saga->attempt_failed;
        auto_free char *error = saga->error ? json_print(saga->error) : NULL;
        auto_free char *data = NULL;
        char number[24];
        struct err err;

        if (!saga_is_ours(saga)) {
                saga_drop(saga, "the lease expired");
                return;
        }
        if (FAILPOINT(saga_before_advance, &err) < 0) {
                uv_timer_start(&saga->store_again, saga_on_store_again, STORE_RETRY, 0);
                return;
        }
        if (saga->at.cancelled)
                json_object_set_new(saga->data, "cancelled", json_true());
        if (saga->decision.move == SAGA_END && saga->at.undoing) /* a retry continues the undo */
                json_object_set_new(saga->data, "undoing", json_true());
        data = json_print(saga->data);
        switch (saga->decision.move) {
        case SAGA_ADVANCE:
                free(TAKE_PTR(error)); /* earlier errors are resolved */
                __attribute__((fallthrough));
        case SAGA_UNDO:
                snprintf(number, sizeof(number), "%lld", (long long)saga->engine->service->config->lease_ms);
                saga_store_step(saga, data, error, number);
                return;
        case SAGA_PARK:
                snprintf(number, sizeof(number), "%lld", (long long)saga->decision.delay_ms);
                if (saga->held_for != NULL)
                        pg_pool_exec(catalog, timeout, SQL_HOLD,
                                     PARAMS(saga->id, saga->fence, saga->refusals > 0 ? NULL : data, number, error,
                                            saga->cancel_wanted ? "true" : "false", saga->held_for),
                                     saga_stored, saga);
                else
                        pg_pool_exec(catalog, timeout, SQL_PARK,
                                     PARAMS(saga->id, saga->fence, data, number, failed ? "true" : "false",
                                            failed ? error : NULL, saga->cancel_wanted ? "true" : "false"),
                                     saga_stored, saga);
                return;
        case SAGA_END:
                pg_pool_exec(catalog, timeout, SQL_END,
                             PARAMS(saga->id, saga->fence, saga->kind->steps[saga->at.step].name,
                                    saga->decision.outcome, data,
                                    strcmp(saga->decision.outcome, "done") == 0 ? NULL : error),
                             saga_stored, saga);
                return;
        }
}

static void saga_put_down(struct saga *saga)
{
        saga_enter(saga, SAGA_STORING);
        saga->decision = (struct saga_decision){ .move = SAGA_PARK, .delay_ms = 0 };
        saga->attempt_failed = false;
        saga_store(saga);
}

/* Runs the saga's current step, unless there is a reason to turn back. */
static void saga_run(struct saga *saga)
{
        const struct saga_step *step = &saga->kind->steps[saga->at.step];
        enum step_result result;
        struct err err;

        if (!saga_is_ours(saga)) { /* frozen between request and answer: a step must not begin without a lease */
                saga_drop(saga, "the lease expired before the step");
                return;
        }
        if (saga->engine->stopped) {
                saga_put_down(saga);
                return;
        }
        saga_count_time(saga);
        if (saga_must_turn_back(saga)) {
                result = saga_turn_back(saga);
        } else if (saga->crashes >= CRASH_LIMIT) {
                result = saga_fail_with(saga, "keeps_crashing", "its workers died ten times at this step");
        } else if (FAILPOINT(saga_before_step, &err) < 0) {
                result = saga_retry(saga, &err);
        } else {
                saga_enter(saga, SAGA_IN_STEP);
                if (saga->at.undoing)
                        result = step->undo ? step->undo(saga) : STEP_DONE;
                else
                        result = step->execute(saga);
        }
        saga_settle(saga, result);
}

static const struct saga_kind *saga_find_kind(const struct saga_engine *engine, const char *name)
{
        for (const struct saga_kind *const *kind = engine->kinds; *kind != NULL; kind++)
                if (strcmp((*kind)->name, name) == 0)
                        return *kind;
        return NULL;
}

static size_t saga_find_step(const struct saga_kind *kind, const char *name)
{
        size_t step = 0;

        while (step < kind->count && strcmp(kind->steps[step].name, name) != 0)
                step++;
        assert(step < kind->count); /* saga_claim returns only kinds and steps that we said we know */
        return step;
}

static struct saga *saga_new(struct saga_engine *engine, const struct pg_rows *rows, int row)
{
        struct saga *saga = NEW(struct saga);
        const char *data = pg_text(rows, row, "data"), *error = pg_text(rows, row, "error");

        saga->magic = SAGA_MAGIC;
        saga->engine = engine;
        saga->kind = saga_find_kind(engine, pg_text(rows, row, "kind"));
        assert(saga->kind != NULL);
        saga->id = mem_copy_text(pg_text(rows, row, "saga_id"));
        saga->tenant = mem_copy_text(pg_text(rows, row, "tenant_id"));
        saga->fence = mem_copy_text(pg_text(rows, row, "fence"));
        saga->crashes = (int)pg_int(rows, row, "crashes");
        saga->cancel_wanted = pg_bool(rows, row, "cancel_wanted");
        saga->background = pg_bool(rows, row, "background");
        if (json_parse(data, strlen(data), &saga->data, NULL) < 0)
                saga->data = json_object();
        if (error != NULL && json_parse(error, strlen(error), &saga->error, NULL) < 0)
                saga->error = NULL;
        saga->at = (struct saga_position){
                .step = saga_find_step(saga->kind, pg_text(rows, row, "step")),
                .undoing = strcmp(pg_text(rows, row, "status"), "undoing") == 0,
                .cancelled = json_flag(saga->data, "cancelled"),
                .kept = json_flag(saga->data, "kept"),
                .attempt = (int)pg_int(rows, row, "attempt"),
                .step_age_ms = pg_int(rows, row, "step_age_ms"),
        };
        saga->step_began = clock_boot_ms();
        uv_timer_init(&engine->service->loop, &saga->store_again);
        saga->store_again.data = saga;
        DL_APPEND(engine->sagas, saga);
        engine->held++;
        engine->held_background += saga->background;
        metric_set(engine->in_hand, (double)engine->held);
        return saga;
}

void saga_begin(struct saga_engine *engine, const struct pg_rows *rows, int row, int64_t lease_until)
{
        struct saga *saga = saga_new(engine, rows, row);
        const char *context_text = pg_text(rows, row, "context");
        auto_json *context = NULL;
        struct err err;

        saga->lease_until = lease_until;
        FAILPOINT(saga_after_claim, NULL);
        if (json_parse(context_text, strlen(context_text), &context, &err) == 0 &&
            (saga->kind->open == NULL || saga->kind->open(saga, context, &saga->shared, &err) == 0)) {
                saga->opened = true;
                saga_run(saga);
                return;
        }
        err.class = ERR_BUSY; /* without what its steps share, a saga can only be put down */
        saga_settle(saga, saga_retry(saga, &err));
}
