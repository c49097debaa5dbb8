/* The saga engine under thousands of schedules: workers that are killed, frozen and slow, answers that are lost, an
 * outside world that fails. Each worker is the shipped engine (saga_engine.c, saga.c, saga_step.c, saga_rules.c);
 * simulated_process.h stands for its clock, loop and catalog connection, simulated.h for the catalog and the world.
 * SIMULATION_SEED=n tells one schedule, SIMULATION_SEEDS=n runs more. */
#include "tests/unit/check.h"

#include "tests/unit/simulated_process.h"

#include "common/base/log.h"

#define CALL SECONDS(2)
#define END  (24 * MINUTES(60))

/* The steps. All do the same, each under its own number: look before you create, look before you delete. */

struct deed_state {
        int saga;
        size_t step;
        bool undoing;
        enum verb verb;
        enum answer answer;
};

static enum step_result called(struct saga *saga, const struct err *err);

static int generation_of(const struct saga *saga)
{
        return (int)json_integer_value(json_object_get(saga_data(saga), "generation"));
}

static enum step_result call(struct saga *saga, enum verb verb)
{
        struct deed_state *deed = saga_state(saga);
        struct err err;

        deed->verb = verb;
        if (in_chaos() && chance(&the->world, the->refused / 4)) { /* it fails at once, before the step has returned */
                err_set(&err, ERR_BUSY, "busy", "no connection");
                saga_resume(saga, &err);
        } else {
                send_request(saga_timeout(saga, CALL),
                             (struct event){ .verb = verb,
                                             .saga = deed->saga,
                                             .fence = strtoull(saga_fence(saga), NULL, 10),
                                             .step = deed->step,
                                             .generation = generation_of(saga),
                                             .undoing = deed->undoing },
                             NULL, saga);
        }
        return saga_await(saga, called);
}

static enum step_result perform(struct saga *saga, size_t step, bool undoing)
{
        struct deed_state *deed = saga_state(saga);

        deed->step = step;
        deed->undoing = undoing;
        return call(saga, !undoing && the->plan.deeds[step] == DEED_SEND ? VERB_MAKE : VERB_LOOK);
}

static enum step_result refuse(struct saga *saga)
{
        struct err err;

        err_set(&err, ERR_PERMANENT, "refused", "never");
        return saga_fail(saga, &err);
}

static enum step_result called(struct saga *saga, const struct err *err)
{
        const struct deed_state *deed = saga_state(saga);
        bool there = err == NULL && deed->answer == ANSWER_YES;
        struct err busy;

        if (err != NULL)
                return saga_retry(saga, err);
        if (deed->answer == ANSWER_REFUSED)
                return refuse(saga);
        if (deed->answer == ANSWER_FORBIDDEN) {
                err_set(&busy, ERR_OURS, "token", "our token is refused");
                return saga_hold(saga, "token", &busy);
        }
        if (deed->verb != VERB_LOOK) {
                err_set(&busy, ERR_BUSY, "busy", "not now");
                return there ? STEP_DONE : saga_retry(saga, &busy);
        }
        if (deed->undoing)
                return there ? call(saga, VERB_REMOVE) : STEP_DONE;
        if (there)
                return STEP_DONE;
        if (the->plan.deeds[deed->step] == DEED_MAKE)
                return call(saga, VERB_MAKE);
        if (the->stuck && generation_of(saga) == 0 && saga_step_age(saga) > SECONDS(30)) {
                json_object_set_new(saga_data(saga), "generation", json_integer(1));
                return STEP_RESTART;
        }
        return saga_wait(saga, SECONDS(2));
}

#define NUMBERED(number)                                                                                               \
        static enum step_result execute_##number(struct saga *saga)                                                    \
        {                                                                                                              \
                return perform(saga, number, false);                                                                   \
        }                                                                                                              \
        static enum step_result undo_##number(struct saga *saga)                                                       \
        {                                                                                                              \
                return perform(saga, number, true);                                                                    \
        }
NUMBERED(0)
NUMBERED(1)
NUMBERED(2)
NUMBERED(3)
NUMBERED(4)
NUMBERED(5)

static const struct saga_step STEPS[STEPS_MOST] = {
        { "first", execute_0, undo_0, MINUTES(10), 0 },  { "second", execute_1, undo_1, MINUTES(10), 10 },
        { "third", execute_2, undo_2, MINUTES(10), 20 }, { "fourth", execute_3, undo_3, MINUTES(10), 30 },
        { "fifth", execute_4, undo_4, MINUTES(10), 40 }, { "sixth", execute_5, undo_5, MINUTES(10), 50 },
};

static int open_deeds(struct saga *saga, const json_t *context, void **ret_state, struct err *err)
{
        struct deed_state *deed;

        (void)context;
        if (in_chaos() && chance(&the->world, the->refused / 4))
                return err_set(err, ERR_BUSY, "busy", "the key is not there yet");
        deed = NEW(struct deed_state);
        deed->saga = saga_id(saga)[strlen("saga-")] - '0';
        *ret_state = deed;
        return 0;
}

/* What others answer. */

static enum answer ask_catalog(struct event *event)
{
        struct simulated *w = &the->world;

        if (event->verb >= VERB_ADVANCE && in_chaos() && chance(w, the->forbidden))
                return ANSWER_FORBIDDEN; /* a function is missing: nothing was done */
        switch (event->verb) {
        case VERB_CLAIM:
                for (int saga = 0; saga < SAGAS; saga++) {
                        bool blind = !event->listed[saga];

                        event->listed[saga] = event->limit > 0 && catalog_claim(w, saga, event->owner, blind, LEASE);
                        event->limit -= event->listed[saga];
                        event->rows[saga] = w->rows[saga];
                        event->step_age[saga] = w->now - w->rows[saga].step_since;
                }
                return ANSWER_YES;
        case VERB_RENEW:
                for (int saga = 0; saga < SAGAS; saga++)
                        if ((event->listed[saga] = event->listed[saga] && catalog_renew(w, saga, event->owner, LEASE)))
                                event->rows[saga] = w->rows[saga];
                return ANSWER_YES;
        case VERB_ADVANCE:
                event->cancel = w->rows[event->saga].cancel_wanted;
                return catalog_advance(w, event->saga, &event->writing, LEASE) ? ANSWER_YES : ANSWER_NO;
        case VERB_PARK:
                return catalog_park(w, event->saga, &event->writing) ? ANSWER_YES : ANSWER_NO;
        case VERB_HOLD:
                return catalog_hold(w, event->saga, &event->writing) ? ANSWER_YES : ANSWER_NO;
        case VERB_END:
                return catalog_end(w, event->saga, &event->writing) ? ANSWER_YES : ANSWER_NO;
        default:
                return ANSWER_YES;
        }
}

static enum answer ask_world(const struct event *event)
{
        struct simulated *w = &the->world;
        const struct thing *thing = &w->things[event->saga][event->generation][event->step];

        if (the->has_bad_step && the->bad_step == event->step && event->verb != VERB_LOOK &&
            event->undoing == the->bad_undo) {
                w->rows[event->saga].refused = true;
                return ANSWER_REFUSED;
        }
        if (in_chaos() && chance(w, the->forbidden))
                return ANSWER_FORBIDDEN;
        if (in_chaos() && chance(w, the->refused))
                return event->verb == VERB_LOOK ? ANSWER_LOST : ANSWER_NO; /* busy: nothing was done */
        if (event->verb == VERB_MAKE)
                world_make(w, event->saga, event->fence, event->step, event->generation);
        else if (event->verb == VERB_REMOVE)
                world_remove(w, event->saga, event->fence, event->step, event->generation);
        else if (the->plan.deeds[event->step] == DEED_WAIT && !event->undoing)
                return the->never || (the->stuck && event->generation == 0) || chance(w, 600) ? ANSWER_NO : ANSWER_YES;
        else
                return thing->there ? ANSWER_YES : ANSWER_NO;
        return ANSWER_YES;
}

static void arrive(struct event event)
{
        event.answer = event.verb >= VERB_CLAIM ? ask_catalog(&event) : ask_world(&event);
        if (event.answer_at > event.give_up_at)
                return; /* the worker will be told that no answer came */
        event.kind = EVENT_ANSWERED;
        plan_event(event.answer_at, event);
}

static void answer_statement(const struct request *request, const struct event *event)
{
        struct pg_rows rows = print_answer(event);
        struct err err;

        if (event->answer == ANSWER_LOST)
                err_set(&err, ERR_BUSY, "connection_lost", "no answer");
        else if (event->answer == ANSWER_FORBIDDEN)
                err_set(&err, ERR_OURS, "42883", "function does not exist");
        else if (event->answer == ANSWER_NO)
                err_set(&err, ERR_CONFLICT, "TN409", "the saga was taken over");
        request->done(request->context, event->answer == ANSWER_YES ? &rows : NULL,
                      event->answer == ANSWER_YES ? NULL : &err);
}

static void answer_call(const struct request *request, const struct event *event)
{
        struct saga *saga = request->context;
        struct err err;

        err_set(&err, ERR_BUSY, "no_answer", "no answer");
        if (event->answer != ANSWER_LOST)
                ((struct deed_state *)saga_state(saga))->answer = event->answer;
        saga_resume(saga, event->answer == ANSWER_LOST ? &err : NULL);
}

static void answer(struct request *waiting, const struct event *event)
{
        struct request request = *waiting;

        *waiting = (struct request){ 0 };
        if (request.done != NULL)
                answer_statement(&request, event);
        else
                answer_call(&request, event);
}

/* Workers come and go. */

static void start_worker(int number)
{
        static const struct service_config config = { .lease_ms = LEASE };
        static const struct saga_kind *kinds[2];
        struct worker *worker = &the->workers[number];

        memset(worker, 0, sizeof(*worker));
        worker->owner = ++the->owners;
        worker->service.config = &config;
        snprintf(worker->service.instance, sizeof(worker->service.instance), "%u", worker->owner);
        the->current = number;
        kinds[0] = &the->plan.kind;
        worker->engine = saga_engine_new(&worker->service, kinds, HOLDS);
}

/* A killed process says nothing more. Its memory is given back by its own code: at the end of all time it owns nothing,
 * every answer it waits for is lost, and so it lets go of everything without a word. */
static void bury(int number)
{
        struct worker *worker = &the->workers[number];
        struct event lost = { .kind = EVENT_ANSWERED, .answer = ANSWER_LOST };

        the->current = number;
        worker->dead = true;
        for (struct request *request = the->requests; request < the->requests + REQUESTS_MOST; request++)
                if (request->id != 0 && request->worker == number)
                        answer(request, &lost);
        for (struct timer *timer = the->timers; timer < the->timers + TIMERS_MOST; timer++)
                if (timer->armed != 0 && timer->worker == number && timer->repeat == 0)
                        tick(timer);
        MUST(&the->world, saga_engine_is_idle(worker->engine), "a dead worker holds on to a saga");
        saga_engine_stop(worker->engine);
        saga_engine_free(worker->engine);
        tell_closed();
}

static void disturb(const struct event *event)
{
        struct worker *worker = &the->workers[event->worker];

        if (event->kind == EVENT_KILL) {
                NOTE(&the->world, "worker %u is killed", worker->owner);
                the->world.counts.kills++;
                bury(event->worker);
                start_worker(event->worker);
                worker->frozen_until = the->world.now + draw_between(&the->world, 10, SECONDS(5)); /* it starts */
        } else if (event->kind == EVENT_FREEZE) {
                worker->frozen_until = the->world.now + draw_between(&the->world, 100, 3 * LEASE);
                NOTE(&the->world, "worker %u is frozen until %" PRId64, worker->owner, worker->frozen_until);
                the->world.counts.freezes++;
        } else {
                NOTE(&the->world, "saga %d: somebody wants it gone", event->saga);
                the->world.rows[event->saga].cancel_wanted = true;
        }
}

static void hear(const struct event *event)
{
        if (event->kind == EVENT_TIMER) {
                for (struct timer *timer = the->timers; timer < the->timers + TIMERS_MOST; timer++)
                        if (timer->armed == event->armed)
                                tick(timer);
                return;
        }
        for (struct request *request = the->requests; request < the->requests + REQUESTS_MOST; request++)
                if (request->id == event->request) {
                        answer(request, event);
                        return;
                }
}

static void happen(struct event event)
{
        struct worker *worker = &the->workers[event.worker];

        if (event.kind == EVENT_ARRIVED) {
                arrive(event); /* it was sent: whatever has become of the sender */
        } else if (event.kind >= EVENT_KILL) {
                disturb(&event);
        } else if (event.owner == worker->owner && worker->frozen_until > the->world.now) {
                plan_event(worker->frozen_until, event);
        } else if (event.owner == worker->owner) {
                the->current = event.worker;
                hear(&event);
                tell_closed();
        }
}

/* Half of the plans look like a provisioning; the others are drawn. */
static void draw_plan(void)
{
        static const enum deed usual[] = { DEED_MAKE, DEED_MAKE, DEED_WAIT, DEED_MAKE, DEED_MAKE, DEED_SEND };
        struct simulated *w = &the->world;
        struct plan *plan = &the->plan;
        bool is_usual = chance(w, 500);

        plan->kind = (struct saga_kind){ "simulated", plan->steps, 0, 0, open_deeds, free, NULL, NULL };
        plan->kind.count = is_usual ? STEPS_MOST : (size_t)draw_between(w, 1, STEPS_MOST);
        plan->kind.no_return = is_usual ? 4 : (size_t)draw_between(w, 0, (int64_t)plan->kind.count);
        for (size_t i = 0; i < plan->kind.count; i++) {
                plan->deeds[i] = is_usual ? usual[i] : (enum deed)(draw(w) % 3);
                plan->steps[i] = STEPS[i];
                if (is_usual ? i >= 2 : plan->deeds[i] != DEED_MAKE || chance(w, 300))
                        plan->steps[i].undo = NULL;
        }
        the->stuck = is_usual && chance(w, 200);
        the->never = !the->stuck && chance(w, 50);
}

static void draw_troubles(void)
{
        struct simulated *w = &the->world;
        int troubles = (int)draw_between(w, 0, 14);

        the->lost = chance(w, 300) ? 0 : (unsigned)draw_between(w, 1, 300);
        the->refused = chance(w, 500) ? 0 : (unsigned)draw_between(w, 1, 300);
        the->forbidden = chance(w, 600) ? 0 : (unsigned)draw_between(w, 1, 300);
        the->has_bad_step = chance(w, 300);
        the->bad_step = draw(w) % the->plan.kind.count;
        the->bad_undo = chance(w, 200);
        for (int i = 0; i < troubles; i++)
                plan_event(draw_between(w, 0, CHAOS),
                           (struct event){ .kind = chance(w, 500) ? EVENT_KILL : EVENT_FREEZE,
                                           .worker = (int)(draw(w) % WORKERS) });
        for (int saga = 0; saga < SAGAS; saga++)
                if (chance(w, 200))
                        plan_event(draw_between(w, 0, chance(w, 500) ? SECONDS(5) : CHAOS),
                                   (struct event){ .kind = EVENT_CANCEL, .saga = saga });
}

static bool all_ended(void)
{
        for (int i = 0; i < SAGAS; i++)
                if (is_active(&the->world.rows[i]))
                        return false;
        return true;
}

/* An end is final: what comes late changes nothing of it, but for commands. */
static void check_ends(struct row ended[SAGAS])
{
        for (int i = 0; i < SAGAS && the->world.broken[0] == '\0'; i++) {
                ended[i].cancel_wanted = the->world.rows[i].cancel_wanted;
                MUST(&the->world, memcmp(&ended[i], &the->world.rows[i], sizeof(ended[i])) == 0,
                     "saga %d changed after its end", i);
                world_is_settled(&the->world, i);
        }
}

/* One schedule, from its seed alone. */
static void simulate(struct simulation *s, uint64_t seed, bool trace, struct counts *counts)
{
        struct row ended[SAGAS];
        int64_t quiet = 0;

        memset(s, 0, sizeof(*s));
        the = s;
        s->world.seed = s->world.random = seed;
        s->world.trace = trace;
        s->world.plan = &s->plan;
        draw_plan();
        for (int i = 0; i < WORKERS; i++)
                start_worker(i);
        draw_troubles();
        while (s->world.broken[0] == '\0' && (quiet == 0 || s->world.now <= quiet)) {
                struct event event = next_event();

                s->world.now = event.at;
                MUST(&s->world, s->world.now < END, "it does not come to an end");
                happen(event);
                if (quiet == 0 && all_ended()) {
                        quiet = s->world.now + MAX(CHAOS, 3 * LEASE);
                        memcpy(ended, s->world.rows, sizeof(ended));
                }
        }
        check_ends(ended);
        for (int i = 0; i < WORKERS; i++)
                bury(i);
        for (size_t i = 0; i < sizeof(*counts) / sizeof(long); i++)
                ((long *)counts)[i] += ((const long *)&s->world.counts)[i];
}

static uint64_t number_from(const char *name, uint64_t fallback)
{
        const char *text = getenv(name);

        return text ? strtoull(text, NULL, 10) : fallback;
}

static void test_sagas_keep_their_promises_under_thousands_of_schedules(void **state)
{
        struct simulation *s = mem_alloc(1, sizeof(*s));
        uint64_t one = number_from("SIMULATION_SEED", 0), seeds = number_from("SIMULATION_SEEDS", 5000);
        struct counts counts = { 0 };

        (void)state;
        for (uint64_t seed = one ? one : 1; seed <= (one ? one : seeds); seed++) {
                simulate(s, seed, one != 0, &counts);
                if (s->world.broken[0] != '\0')
                        fail_msg("seed %" PRIu64 " at %" PRId64 " ms: %s (tell it with SIMULATION_SEED=%" PRIu64 ")",
                                 seed, s->world.now, s->world.broken, seed);
        }
        free(s);
        print_message("%ld done, %ld failed, %ld cancelled, %ld attention; %ld takeovers, %ld stale, %ld kills\n",
                      counts.done, counts.failed, counts.cancelled, counts.attention, counts.takeovers, counts.stale,
                      counts.kills);
        if (one != 0 || seeds < 1000)
                return;
        /* A simulation in which nothing happens proves nothing. */
        assert_true(counts.done > 1000);
        assert_true(counts.failed > 100);
        assert_true(counts.cancelled > 100);
        assert_true(counts.attention > 100);
        assert_true(counts.takeovers > 1000);
        assert_true(counts.stale > 100);
        assert_true(counts.kills > 1000);
        assert_true(counts.freezes > 1000);
        assert_true(counts.restarts > 100);
        assert_true(counts.holds > 1000);
        assert_true(counts.made > 10000);
        assert_true(counts.removed > 500);
}

static void test_the_same_seed_tells_the_same_story(void **state)
{
        struct simulation *one = mem_alloc(1, sizeof(*one)), *two = mem_alloc(1, sizeof(*two));
        struct counts counts = { 0 };

        (void)state;
        for (uint64_t seed = 1; seed <= 50; seed++) {
                simulate(one, seed, false, &counts);
                simulate(two, seed, false, &counts);
                assert_true(one->world.now == two->world.now);
                assert_true(one->world.random == two->world.random);
                assert_memory_equal(one->world.rows, two->world.rows, sizeof(one->world.rows));
                assert_memory_equal(one->world.things, two->world.things, sizeof(one->world.things));
        }
        free(one);
        free(two);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_sagas_keep_their_promises_under_thousands_of_schedules),
                SENTENCE(test_the_same_seed_tells_the_same_story),
        };

        log_set_level(getenv("SIMULATION_SEED")
                              ? "debug"
                              : "error"); /* the workers tell of every trouble, and here are thousands */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
