/* The saga engine's decisions under thousands of schedules: workers that are killed, frozen and slow, answers that are
 * lost, an outside world that fails. A worker here does what saga.c does, step for step, with saga_rules.c deciding;
 * simulated.h holds the catalog and the world. SIMULATION_SEED=n tells one schedule, SIMULATION_SEEDS=n runs more. */
#include "tests/unit/check.h"

#include "tests/unit/simulated.h"

#define LEASE       SECONDS(6)
#define MARGIN      250 /* LEASE_MARGIN of saga.c */
#define STORE_RETRY 300
#define CRASH_LIMIT 10
#define STATEMENT   SECONDS(10)
#define CALL        SECONDS(2)
#define TAIL        200 /* an effect may arrive this long after its caller has given up */
#define CHAOS       SECONDS(90)
#define END         (24 * MINUTES(60))

enum { WORKERS = 3, HOLDS = 2, EVENTS_MOST = 512 };

enum event_kind {
        EVENT_POLL,    /* a worker looks for work */
        EVENT_RENEW,   /* a worker renews its leases */
        EVENT_ASKED,   /* a request reaches the catalog */
        EVENT_TOLD,    /* its answer reaches the worker */
        EVENT_ARRIVED, /* a call reaches the outside world */
        EVENT_CALLED,  /* its answer reaches the step */
        EVENT_STORE,   /* the store is tried again */
        EVENT_KILL,
        EVENT_FREEZE,
        EVENT_CANCEL,
};

enum verb { VERB_LOOK, VERB_MAKE, VERB_REMOVE, VERB_CLAIM, VERB_RENEW, VERB_ADVANCE, VERB_PARK, VERB_END };
enum answer { ANSWER_YES, ANSWER_NO, ANSWER_LOST, ANSWER_REFUSED };

struct event {
        int64_t at;
        uint64_t order;
        enum event_kind kind;
        int worker, saga;
        unsigned owner;   /* the worker's life this belongs to */
        uint64_t holding; /* the saga in hand this belongs to */
        enum verb verb;
        enum answer answer;
        int64_t asked_at, answer_at, give_up_at, step_age;
        uint64_t fence;
        size_t step;
        bool failed, cancel, undoing;
        struct saga_decision decision;
        struct facts facts;
        struct row row;
};

/* struct saga of saga.c, as far as its schedule matters. */
struct held {
        uint64_t holding; /* 0: the place is free */
        int saga, crashes;
        uint64_t fence;
        struct saga_position at;
        struct facts facts;
        bool cancel_wanted, lost, attempt_failed;
        int64_t lease_until, next_lease, step_began;
        struct saga_decision decision;
};

struct worker {
        unsigned owner;
        int64_t frozen_until;
        bool claiming;
        struct held held[HOLDS];
};

struct simulation {
        struct simulated world;
        struct plan plan;
        struct worker workers[WORKERS];
        struct event events[EVENTS_MOST];
        size_t event_count;
        uint64_t orders, holdings;
        unsigned owners;
        unsigned lost, refused;      /* per thousand, while the chaos lasts */
        size_t bad_step;             /* refuses for good */
        bool bad_undo, stuck, never; /* stuck: the first generation does not become ready; never: none does */
        bool has_bad_step;
};

static bool in_chaos(const struct simulation *s)
{
        return s->world.now < CHAOS;
}

static void plan_event(struct simulation *s, int64_t at, struct event event)
{
        if (s->event_count == EVENTS_MOST)
                abort();
        event.at = at;
        event.order = ++s->orders;
        s->events[s->event_count++] = event;
}

static struct event next_event(struct simulation *s)
{
        size_t first = 0;
        struct event event;

        for (size_t i = 1; i < s->event_count; i++)
                if (s->events[i].at < s->events[first].at ||
                    (s->events[i].at == s->events[first].at && s->events[i].order < s->events[first].order))
                        first = i;
        event = s->events[first];
        s->events[first] = s->events[--s->event_count];
        return event;
}

static bool still_ours(const struct simulation *s, const struct held *held)
{
        return !held->lost && s->world.now < held->lease_until - MARGIN;
}

static int64_t timeout_of(const struct simulation *s, const struct held *held, int64_t wanted)
{
        return MAX(1, MIN(wanted, held->lease_until - MARGIN - s->world.now));
}

static void let_go(struct held *held)
{
        memset(held, 0, sizeof(*held));
}

static int64_t latency(struct simulation *s)
{
        if (in_chaos(s) && chance(&s->world, 30))
                return draw_between(&s->world, 200, SECONDS(12));
        return draw_between(&s->world, 1, 60);
}

/* One request, of a saga in hand (or of the worker, held NULL), on its way to the catalog or to the outside world. */
static void ask(struct simulation *s, int worker, const struct held *held, int64_t timeout, struct event event)
{
        int64_t now = s->world.now, arrives = now + latency(s);

        event.worker = worker;
        event.owner = s->workers[worker].owner;
        event.asked_at = now;
        event.give_up_at = now + timeout;
        event.answer_at = arrives + latency(s);
        if (in_chaos(s) && chance(&s->world, s->lost))
                event.answer_at = INT64_MAX;
        if (held != NULL) {
                event.holding = held->holding;
                event.saga = held->saga;
                event.fence = held->fence;
                event.step = held->at.step;
                event.undoing = held->at.undoing;
        }
        event.kind = event.verb <= VERB_REMOVE ? EVENT_ARRIVED : EVENT_ASKED;
        if (arrives <= event.give_up_at + TAIL)
                plan_event(s, arrives, event);
        if (event.answer_at > event.give_up_at) {
                event.kind = event.verb <= VERB_REMOVE ? EVENT_CALLED : EVENT_TOLD;
                event.answer = ANSWER_LOST;
                plan_event(s, event.give_up_at, event);
        }
}

static void call(struct simulation *s, int worker, struct held *held, enum verb verb)
{
        ask(s, worker, held, timeout_of(s, held, CALL), (struct event){ .verb = verb, .facts = held->facts });
}

static void store(struct simulation *s, int worker, struct held *held)
{
        static const enum verb verbs[] = { VERB_ADVANCE, VERB_ADVANCE, VERB_PARK, VERB_END };

        if (!still_ours(s, held)) {
                let_go(held);
                return;
        }
        held->facts.cancelled = held->at.cancelled;
        held->next_lease = s->world.now + LEASE;
        ask(s, worker, held, timeout_of(s, held, STATEMENT),
            (struct event){ .verb = verbs[held->decision.move],
                            .decision = held->decision,
                            .facts = held->facts,
                            .failed = held->attempt_failed });
}

static void settle(struct simulation *s, int worker, struct held *held, enum step_result result, int64_t wait_ms)
{
        held->at.random = draw(&s->world);
        held->decision = saga_decide(&s->plan.kind, &held->at, result, wait_ms);
        held->attempt_failed = result == STEP_RETRY;
        store(s, worker, held);
}

static void give_up(struct simulation *s, int worker, struct held *held)
{
        s->world.rows[held->saga].may_fail = true;
        settle(s, worker, held, STEP_FAIL, 0);
}

static void run(struct simulation *s, int worker, struct held *held)
{
        if (!still_ours(s, held)) {
                let_go(held);
                return;
        }
        held->at.step_age_ms += s->world.now - held->step_began;
        held->step_began = s->world.now;
        if (held->cancel_wanted && saga_may_cancel(&s->plan.kind, &held->at)) {
                held->at.cancelled = true;
                settle(s, worker, held, STEP_FAIL, 0);
        } else if (held->crashes >= CRASH_LIMIT || saga_is_overdue(&s->plan.kind, &held->at)) {
                give_up(s, worker, held);
        } else {
                call(s, worker, held,
                     !held->at.undoing && s->plan.deeds[held->at.step] == DEED_SEND ? VERB_MAKE : VERB_LOOK);
        }
}

/* The step's own code: look before you create, look before you delete. */
static void called(struct simulation *s, int worker, struct held *held, const struct event *event)
{
        bool there = event->answer == ANSWER_YES;

        if (!still_ours(s, held)) {
                let_go(held);
        } else if (event->answer == ANSWER_LOST) {
                settle(s, worker, held, STEP_RETRY, 0);
        } else if (event->answer == ANSWER_REFUSED) {
                give_up(s, worker, held);
        } else if (event->verb != VERB_LOOK) {
                settle(s, worker, held, event->answer == ANSWER_YES ? STEP_DONE : STEP_RETRY, 0);
        } else if (held->at.undoing && there) {
                call(s, worker, held, VERB_REMOVE);
        } else if (held->at.undoing || there) {
                settle(s, worker, held, STEP_DONE, 0);
        } else if (s->plan.deeds[held->at.step] == DEED_MAKE) {
                call(s, worker, held, VERB_MAKE);
        } else if (s->stuck && held->facts.generation == 0 && held->at.step_age_ms > SECONDS(30)) {
                held->facts.generation++;
                settle(s, worker, held, STEP_RESTART, 0);
        } else {
                settle(s, worker, held, STEP_WAIT, SECONDS(2));
        }
}

static void claimed(struct simulation *s, int worker, const struct event *event)
{
        struct held *held = s->workers[worker].held;

        while (held->holding != 0)
                held++;
        *held = (struct held){
                .holding = ++s->holdings,
                .saga = event->saga,
                .fence = event->row.fence,
                .crashes = event->row.crashes,
                .cancel_wanted = event->row.cancel_wanted,
                .facts = event->row.facts,
                .at = { .step = event->row.step,
                        .undoing = event->row.status == UNDOING,
                        .cancelled = event->row.facts.cancelled,
                        .attempt = event->row.attempt,
                        .step_age_ms = event->step_age },
                .lease_until = event->asked_at + LEASE,
                .step_began = s->world.now,
        };
        run(s, worker, held);
}

static void stored(struct simulation *s, int worker, struct held *held, const struct event *event)
{
        if (event->answer == ANSWER_LOST && still_ours(s, held)) {
                plan_event(s, s->world.now + STORE_RETRY,
                           (struct event){ .kind = EVENT_STORE,
                                           .worker = worker,
                                           .owner = event->owner,
                                           .holding = held->holding });
        } else if (event->answer != ANSWER_YES || event->verb != VERB_ADVANCE) {
                let_go(held);
        } else {
                held->lease_until = held->next_lease;
                held->at = (struct saga_position){ .step = held->decision.to,
                                                   .undoing = held->decision.move == SAGA_UNDO,
                                                   .cancelled = held->at.cancelled };
                held->crashes = 0;
                held->cancel_wanted = event->cancel;
                held->step_began = s->world.now;
                run(s, worker, held);
        }
}

static void told(struct simulation *s, int worker, struct held *held, const struct event *event)
{
        if (event->verb == VERB_CLAIM) {
                s->workers[worker].claiming = false;
                if (event->answer == ANSWER_YES)
                        claimed(s, worker, event);
        } else if (event->verb == VERB_RENEW && held != NULL && event->answer == ANSWER_YES) {
                held->lease_until = MAX(held->lease_until, event->asked_at + LEASE);
        } else if (event->verb == VERB_RENEW && held != NULL && event->answer == ANSWER_NO) {
                held->lost = true;
        } else if (event->verb != VERB_RENEW && held != NULL) {
                stored(s, worker, held, event);
        }
}

static void look_for_work(struct simulation *s, int number)
{
        struct worker *worker = &s->workers[number];
        bool sees[SAGAS] = { false };
        int count = 0;

        for (int i = 0; i < HOLDS; i++)
                if (worker->held[i].holding != 0) {
                        sees[worker->held[i].saga] = true;
                        count++;
                }
        if (!worker->claiming && count < HOLDS) {
                int saga = (int)(draw(&s->world) % SAGAS);

                worker->claiming = true;
                ask(s, number, NULL, STATEMENT,
                    (struct event){ .verb = VERB_CLAIM, .saga = saga, .failed = !sees[saga] });
        }
        plan_event(s, s->world.now + draw_between(&s->world, 300, 1500),
                   (struct event){ .kind = EVENT_POLL, .worker = number, .owner = worker->owner });
}

static void renew(struct simulation *s, int number)
{
        struct worker *worker = &s->workers[number];

        for (int i = 0; i < HOLDS; i++)
                if (worker->held[i].holding != 0)
                        ask(s, number, &worker->held[i], STATEMENT, (struct event){ .verb = VERB_RENEW });
        plan_event(s, s->world.now + LEASE / 3,
                   (struct event){ .kind = EVENT_RENEW, .worker = number, .owner = worker->owner });
}

static enum answer ask_catalog(struct simulation *s, struct event *event)
{
        struct simulated *w = &s->world;
        bool worked;

        switch (event->verb) {
        case VERB_CLAIM:
                worked = catalog_claim(w, event->saga, event->owner, event->failed, LEASE);
                event->row = w->rows[event->saga];
                event->step_age = w->now - event->row.step_since;
                break;
        case VERB_RENEW:
                worked = catalog_renew(w, event->saga, event->owner, LEASE);
                break;
        case VERB_ADVANCE:
                worked = catalog_advance(w, event->saga, event->fence, event->step, &event->decision, event->facts,
                                         LEASE);
                event->cancel = w->rows[event->saga].cancel_wanted;
                break;
        case VERB_PARK:
                worked = catalog_park(w, event->saga, event->fence, &event->decision, event->facts, event->failed);
                break;
        default:
                worked = catalog_end(w, event->saga, event->fence, event->step, event->decision.outcome, event->facts);
                break;
        }
        return worked ? ANSWER_YES : ANSWER_NO;
}

static enum answer ask_world(struct simulation *s, const struct event *event)
{
        const struct thing *thing = &s->world.things[event->saga][event->facts.generation][event->step];

        if (s->has_bad_step && s->bad_step == event->step && event->verb != VERB_LOOK && event->undoing == s->bad_undo)
                return ANSWER_REFUSED;
        if (in_chaos(s) && chance(&s->world, s->refused))
                return event->verb == VERB_LOOK ? ANSWER_LOST : ANSWER_NO; /* busy: nothing was done */
        if (event->verb == VERB_MAKE)
                world_make(&s->world, event->saga, event->fence, event->step, event->facts.generation);
        else if (event->verb == VERB_REMOVE)
                world_remove(&s->world, event->saga, event->fence, event->step, event->facts.generation);
        else if (s->plan.deeds[event->step] == DEED_WAIT && !event->undoing)
                return s->never || (s->stuck && event->facts.generation == 0) || chance(&s->world, 600) ? ANSWER_NO
                                                                                                        : ANSWER_YES;
        else
                return thing->there ? ANSWER_YES : ANSWER_NO;
        return ANSWER_YES;
}

static void arrive(struct simulation *s, struct event event)
{
        event.answer = event.kind == EVENT_ASKED ? ask_catalog(s, &event) : ask_world(s, &event);
        if (event.answer_at > event.give_up_at)
                return; /* the worker has been told that no answer came */
        event.kind = event.kind == EVENT_ASKED ? EVENT_TOLD : EVENT_CALLED;
        plan_event(s, event.answer_at, event);
}

static void start_worker(struct simulation *s, int number, int64_t delay)
{
        struct worker *worker = &s->workers[number];

        memset(worker, 0, sizeof(*worker));
        worker->owner = ++s->owners;
        plan_event(s, s->world.now + delay,
                   (struct event){ .kind = EVENT_POLL, .worker = number, .owner = worker->owner });
        plan_event(s, s->world.now + delay,
                   (struct event){ .kind = EVENT_RENEW, .worker = number, .owner = worker->owner });
}

static void disturb(struct simulation *s, const struct event *event)
{
        struct worker *worker = &s->workers[event->worker];

        if (event->kind == EVENT_KILL) {
                NOTE(&s->world, "worker %u is killed", worker->owner);
                s->world.counts.kills++;
                start_worker(s, event->worker, draw_between(&s->world, 10, SECONDS(5)));
        } else if (event->kind == EVENT_FREEZE) {
                worker->frozen_until = s->world.now + draw_between(&s->world, 100, 3 * LEASE);
                NOTE(&s->world, "worker %u is frozen until %" PRId64, worker->owner, worker->frozen_until);
                s->world.counts.freezes++;
        } else {
                NOTE(&s->world, "saga %d: somebody wants it gone", event->saga);
                s->world.rows[event->saga].cancel_wanted = true;
        }
}

static struct held *find_held(struct worker *worker, uint64_t holding)
{
        for (int i = 0; holding != 0 && i < HOLDS; i++)
                if (worker->held[i].holding == holding)
                        return &worker->held[i];
        return NULL;
}

static void happen(struct simulation *s, struct event event)
{
        struct worker *worker = &s->workers[event.worker];
        struct held *held;

        if (event.kind == EVENT_ASKED || event.kind == EVENT_ARRIVED) {
                arrive(s, event); /* it was sent: whatever has become of the sender */
                return;
        }
        if (event.kind >= EVENT_KILL) {
                disturb(s, &event);
                return;
        }
        if (event.owner != worker->owner)
                return;
        if (worker->frozen_until > s->world.now) {
                plan_event(s, worker->frozen_until, event);
                return;
        }
        held = find_held(worker, event.holding);
        if (event.kind == EVENT_POLL)
                look_for_work(s, event.worker);
        else if (event.kind == EVENT_RENEW)
                renew(s, event.worker);
        else if (event.kind == EVENT_TOLD)
                told(s, event.worker, held, &event);
        else if (event.kind == EVENT_CALLED && held != NULL)
                called(s, event.worker, held, &event);
        else if (event.kind == EVENT_STORE && held != NULL)
                store(s, event.worker, held);
}

static enum step_result never_called(struct saga *saga)
{
        (void)saga;
        abort();
}

/* Half of the plans look like a provisioning; the others are drawn. */
static void draw_plan(struct simulation *s)
{
        static const char *const names[] = { "first", "second", "third", "fourth", "fifth", "sixth" };
        static const enum deed usual[] = { DEED_MAKE, DEED_MAKE, DEED_WAIT, DEED_MAKE, DEED_MAKE, DEED_SEND };
        struct plan *plan = &s->plan;
        bool is_usual = chance(&s->world, 500);

        plan->kind = (struct saga_kind){ .name = "simulated", .steps = plan->steps };
        plan->kind.count = is_usual ? STEPS_MOST : (size_t)draw_between(&s->world, 1, STEPS_MOST);
        plan->kind.no_return = is_usual ? 4 : (size_t)draw_between(&s->world, 0, (int64_t)plan->kind.count);
        for (size_t i = 0; i < plan->kind.count; i++) {
                plan->deeds[i] = is_usual ? usual[i] : (enum deed)(draw(&s->world) % 3);
                plan->steps[i] = (struct saga_step){ .name = names[i], .limit_ms = MINUTES(10) };
                if (is_usual ? i < 2 : plan->deeds[i] == DEED_MAKE && chance(&s->world, 700))
                        plan->steps[i].undo = never_called;
        }
        s->stuck = is_usual && chance(&s->world, 200);
        s->never = !s->stuck && chance(&s->world, 50);
}

static void draw_troubles(struct simulation *s)
{
        struct simulated *w = &s->world;
        int troubles = (int)draw_between(w, 0, 14);

        s->lost = chance(w, 300) ? 0 : (unsigned)draw_between(w, 1, 300);
        s->refused = chance(w, 500) ? 0 : (unsigned)draw_between(w, 1, 300);
        s->has_bad_step = chance(w, 300);
        s->bad_step = draw(w) % s->plan.kind.count;
        s->bad_undo = chance(w, 200);
        for (int i = 0; i < troubles; i++)
                plan_event(s, draw_between(w, 0, CHAOS),
                           (struct event){ .kind = chance(w, 500) ? EVENT_KILL : EVENT_FREEZE,
                                           .worker = (int)(draw(w) % WORKERS) });
        for (int saga = 0; saga < SAGAS; saga++)
                if (chance(w, 200))
                        plan_event(s, draw_between(w, 0, chance(w, 500) ? SECONDS(5) : CHAOS),
                                   (struct event){ .kind = EVENT_CANCEL, .saga = saga });
}

static bool all_ended(const struct simulation *s)
{
        for (int i = 0; i < SAGAS; i++)
                if (is_active(&s->world.rows[i]))
                        return false;
        return true;
}

/* One schedule, from its seed alone. */
static void simulate(struct simulation *s, uint64_t seed, bool trace, struct counts *counts)
{
        struct row ended[SAGAS];
        int64_t quiet = 0;

        memset(s, 0, sizeof(*s));
        s->world.seed = s->world.random = seed;
        s->world.trace = trace;
        s->world.plan = &s->plan;
        draw_plan(s);
        for (int i = 0; i < WORKERS; i++)
                start_worker(s, i, draw_between(&s->world, 0, 1000));
        draw_troubles(s);
        while (s->world.broken[0] == '\0') {
                struct event event = next_event(s);

                s->world.now = event.at;
                MUST(&s->world, s->world.now < END, "it does not come to an end");
                happen(s, event);
                if (quiet == 0 && all_ended(s)) {
                        quiet = s->world.now + MAX(CHAOS, 3 * LEASE);
                        memcpy(ended, s->world.rows, sizeof(ended));
                }
                if (quiet != 0 && s->world.now > quiet)
                        break;
        }
        for (int i = 0; i < SAGAS && s->world.broken[0] == '\0'; i++) {
                ended[i].cancel_wanted = s->world.rows[i].cancel_wanted; /* commands may still come */
                ended[i].may_fail = s->world.rows[i].may_fail;
                MUST(&s->world, memcmp(&ended[i], &s->world.rows[i], sizeof(ended[i])) == 0,
                     "saga %d changed after its end", i);
                world_is_settled(&s->world, i);
        }
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

        return cmocka_run_group_tests(tests, NULL, NULL);
}
