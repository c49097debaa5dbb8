/* What the simulated workers meet: the catalog's row of a saga with the rules of its SQL functions (saga_claim,
 * saga_renew, saga_advance, saga_park, saga_end), and an outside world of things that have names. Both check, at every
 * change, what must hold whatever the schedule. Times are milliseconds of a clock that the simulation moves. */
#pragma once

#include "common/durable/saga.h"

#include <inttypes.h>
#include <stdio.h>

enum { SAGAS = 2, STEPS_MOST = 6, GENERATIONS = 3 };

/* What a step does outside. */
enum deed {
        DEED_MAKE, /* makes a thing with a name: looked up first */
        DEED_WAIT, /* waits until something outside is ready */
        DEED_SEND, /* sends what cannot be looked up: at least once */
};

struct plan {
        struct saga_kind kind;
        struct saga_step steps[STEPS_MOST];
        enum deed deeds[STEPS_MOST];
};

enum status { RUNNING, UNDOING, DONE, FAILED, CANCELLED, ATTENTION };

struct facts { /* saga.data */
        int generation;
        int cancelled;
};

struct row {
        enum status status;
        size_t step;
        int attempt, crashes;
        int64_t next_at, step_since, lease_until; /* lease_until 0: nobody has it */
        unsigned owner;
        uint64_t fence;
        bool cancel_wanted, past_return, refused; /* refused: the outside has said no for good */
        struct facts facts;
        char code[24]; /* of the last error */
};

/* What a worker asks the catalog to write: the parameters of saga_advance, saga_park and saga_end. */
struct writing {
        uint64_t fence;
        size_t from, to;
        enum status status;
        struct facts facts;
        bool keeps_facts;
        int64_t delay_ms;
        bool failed;
        char code[24];
};

struct thing {
        bool there;
        int made, removed, sent;
};

struct simulated {
        uint64_t seed, random;
        int64_t now;
        uint64_t fences;
        const struct plan *plan;
        struct row rows[SAGAS];
        struct thing things[SAGAS][GENERATIONS][STEPS_MOST];
        char broken[200]; /* the first thing that must not be, or empty */
        bool trace;
        struct counts {
                long done, failed, cancelled, attention, takeovers, stale, kills, freezes, restarts, holds, made,
                        removed;
        } counts;
};

static inline uint32_t draw(struct simulated *s)
{
        uint64_t x = s->random += 0x9e3779b97f4a7c15;

        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        return (uint32_t)(x >> 32);
}

static inline int64_t draw_between(struct simulated *s, int64_t least, int64_t most)
{
        return least + (int64_t)(draw(s) % (uint64_t)(most - least + 1));
}

static inline bool chance(struct simulated *s, unsigned per_thousand)
{
        return draw(s) % 1000 < per_thousand;
}

#define NOTE(s, ...)                                                                                                   \
        do {                                                                                                           \
                if ((s)->trace) {                                                                                      \
                        fprintf(stderr, "%9" PRId64 "  ", (s)->now);                                                   \
                        fprintf(stderr, __VA_ARGS__);                                                                  \
                        fputc('\n', stderr);                                                                           \
                }                                                                                                      \
        } while (0)

/* Keeps the first broken promise; the simulation stops at it. */
#define MUST(s, condition, ...)                                                                                        \
        do {                                                                                                           \
                if (!(condition) && (s)->broken[0] == '\0')                                                            \
                        snprintf((s)->broken, sizeof((s)->broken), __VA_ARGS__);                                       \
        } while (0)

static inline bool is_active(const struct row *row)
{
        return row->status == RUNNING || row->status == UNDOING;
}

/* saga_claim for one row; true where it is now owner's. blind: the owner does not see it among what it holds. */
static inline bool catalog_claim(struct simulated *s, int saga, unsigned owner, bool blind, int64_t lease_ms)
{
        struct row *row = &s->rows[saga];

        if (!is_active(row) || row->next_at > s->now || !blind ||
            !(row->lease_until == 0 || row->lease_until < s->now || row->owner == owner))
                return false;
        if (row->lease_until != 0 && row->owner != owner) {
                row->crashes++;
                s->counts.takeovers++;
        }
        row->owner = owner;
        row->lease_until = s->now + lease_ms;
        row->fence = ++s->fences;
        NOTE(s, "saga %d: %u claims %s at fence %" PRIu64, saga, owner, s->plan->steps[row->step].name, row->fence);
        return true;
}

static inline bool catalog_renew(struct simulated *s, int saga, unsigned owner, int64_t lease_ms)
{
        struct row *row = &s->rows[saga];

        if (row->owner != owner)
                return false;
        row->lease_until = s->now + lease_ms;
        return true;
}

/* The paths a saga may take, told once more and plainly, so that the rules are not checked against themselves. */
static inline bool is_legal(const struct plan *plan, const struct row *row, enum status status, size_t to)
{
        size_t nearest = row->status == UNDOING ? row->step : row->step + 1;

        if (status == RUNNING)
                return row->status == RUNNING &&
                       (to == row->step + 1 || (to == 0 && row->step < plan->kind.no_return && !row->past_return));
        if (row->past_return || row->step >= plan->kind.no_return)
                return false;
        while (nearest > 0 && plan->steps[nearest - 1].undo == NULL)
                nearest--;
        return nearest > 0 && to == nearest - 1;
}

static inline bool is_taken_over(struct simulated *s, const struct row *row, uint64_t fence, bool same_step)
{
        if (is_active(row) && row->fence == fence && same_step)
                return false;
        s->counts.stale++;
        return true;
}

/* Giving up needs a reason, and the reason must be true. */
static inline bool has_reason(const struct simulated *s, const struct row *row, const char *code)
{
        if (strcmp(code, "cancelled") == 0)
                return row->cancel_wanted;
        if (strcmp(code, "keeps_crashing") == 0)
                return row->crashes >= 10;
        if (strcmp(code, "step_timeout") == 0)
                return s->now - row->step_since >= s->plan->steps[row->step].limit_ms;
        return strcmp(code, "refused") == 0 && row->refused;
}

/* The three that write: false = TN409, and nothing was changed. */
static inline bool catalog_advance(struct simulated *s, int saga, const struct writing *w, int64_t lease_ms)
{
        struct row *row = &s->rows[saga];
        bool again = row->status == UNDOING && w->status == UNDOING && row->step == w->to; /* its answer was lost */
        const struct thing *thing = &s->things[saga][row->facts.generation][row->step];

        if (is_taken_over(s, row, w->fence, row->step == w->from))
                return false;
        MUST(s, again || is_legal(s->plan, row, w->status, w->to), "saga %d: from %s %zu to %s %zu", saga,
             row->status == UNDOING ? "undoing" : "running", w->from, w->status == UNDOING ? "undoing" : "running",
             w->to);
        if (w->status == RUNNING && w->to == w->from + 1)
                MUST(s, s->plan->deeds[w->from] == DEED_WAIT || thing->there || thing->sent > 0,
                     "saga %d left step %zu without having done it", saga, w->from);
        if (w->status == UNDOING && row->status == RUNNING)
                MUST(s, has_reason(s, row, w->code), "saga %d turned back because of %s", saga, w->code);
        if (w->status == RUNNING && w->to == 0)
                s->counts.restarts++;
        NOTE(s, "saga %d: %s %s", saga, w->status == UNDOING ? "undoing" : "running", s->plan->steps[w->to].name);
        row->status = w->status;
        row->step = w->to;
        row->past_return |= w->status == RUNNING && row->step >= s->plan->kind.no_return;
        row->facts = w->facts;
        memcpy(row->code, w->code, sizeof(row->code));
        row->attempt = row->crashes = 0;
        row->refused = false;
        row->step_since = s->now;
        row->lease_until = s->now + lease_ms;
        return true;
}

static inline bool catalog_park(struct simulated *s, int saga, const struct writing *w)
{
        struct row *row = &s->rows[saga];

        if (is_taken_over(s, row, w->fence, true))
                return false;
        row->owner = 0;
        row->lease_until = 0;
        row->facts = w->facts;
        row->attempt += w->failed;
        row->next_at = s->now + w->delay_ms;
        if (w->code[0] != '\0')
                memcpy(row->code, w->code, sizeof(row->code));
        return true;
}

/* saga_hold: somebody must mend something of ours; the step's time begins anew. */
static inline bool catalog_hold(struct simulated *s, int saga, const struct writing *w)
{
        struct facts stored = s->rows[saga].facts;

        if (!catalog_park(s, saga, w))
                return false;
        if (w->keeps_facts)
                s->rows[saga].facts = stored;
        s->rows[saga].step_since = s->now;
        s->counts.holds++;
        return true;
}

static inline bool catalog_end(struct simulated *s, int saga, const struct writing *w)
{
        struct row *row = &s->rows[saga];
        enum status before = row->status;

        if (is_taken_over(s, row, w->fence, row->step == w->from))
                return false;
        NOTE(s, "saga %d: ends at %s (%s)", saga, s->plan->steps[w->from].name, w->code);
        MUST(s, w->status != DONE || (before == RUNNING && w->from + 1 == s->plan->kind.count),
             "saga %d is done too early", saga);
        MUST(s, w->status == DONE || (w->status != ATTENTION && before == UNDOING) || has_reason(s, row, w->code),
             "saga %d gave up because of %s", saga, w->code);
        MUST(s, (w->status != FAILED && w->status != CANCELLED) || !row->past_return,
             "saga %d gave up behind its point of no return", saga);
        MUST(s, w->status != CANCELLED || row->cancel_wanted, "saga %d was cancelled by nobody", saga);
        MUST(s, w->status != ATTENTION || before == UNDOING || w->from >= s->plan->kind.no_return,
             "saga %d needs attention where it could have turned back", saga);
        row->status = w->status;
        row->facts = w->facts;
        row->owner = 0;
        row->lease_until = 0;
        return true;
}

/* An effect arrives outside. Whoever sends it must own the row at that moment, and stand where the row stands. */
static inline void world_checks(struct simulated *s, int saga, uint64_t fence, size_t step, int generation, bool undo)
{
        const struct row *row = &s->rows[saga];

        MUST(s, is_active(row) && row->fence == fence, "saga %d: an effect of step %zu with the stale fence %" PRIu64,
             saga, step, fence);
        MUST(s, row->step == step && row->facts.generation == generation,
             "saga %d: an effect of step %zu, but it stands at %zu", saga, step, row->step);
        MUST(s, undo == (row->status == UNDOING), "saga %d: step %zu goes the wrong way", saga, step);
}

static inline void world_make(struct simulated *s, int saga, uint64_t fence, size_t step, int generation)
{
        struct thing *thing = &s->things[saga][generation][step];

        NOTE(s, "saga %d: %s of generation %d is made", saga, s->plan->steps[step].name, generation);
        world_checks(s, saga, fence, step, generation, false);
        if (s->plan->deeds[step] == DEED_SEND) {
                thing->sent++;
                return;
        }
        thing->made++;
        thing->there = true;
        s->counts.made++;
        MUST(s, thing->made == 1, "saga %d: step %zu made its thing %d times", saga, step, thing->made);
}

static inline void world_remove(struct simulated *s, int saga, uint64_t fence, size_t step, int generation)
{
        struct thing *things = s->things[saga][generation];

        NOTE(s, "saga %d: %s of generation %d is removed", saga, s->plan->steps[step].name, generation);
        world_checks(s, saga, fence, step, generation, true);
        MUST(s, !s->rows[saga].past_return, "saga %d: step %zu was undone behind the point of no return", saga, step);
        for (size_t later = step + 1; later < s->plan->kind.count; later++)
                MUST(s, !things[later].there || s->plan->steps[later].undo == NULL,
                     "saga %d: step %zu was undone before step %zu", saga, step, later);
        things[step].removed++;
        things[step].there = false;
        s->counts.removed++;
        MUST(s, things[step].removed == 1, "saga %d: step %zu was undone %d times", saga, step, things[step].removed);
}

/* When all is over: each end has left the world as it promises. */
static inline void world_is_settled(struct simulated *s, int saga)
{
        const struct row *row = &s->rows[saga];
        const struct thing *things = s->things[saga][row->facts.generation];

        for (size_t step = 0; step < s->plan->kind.count; step++) {
                if (row->status == DONE && s->plan->deeds[step] != DEED_WAIT)
                        MUST(s, things[step].there || things[step].sent > 0, "saga %d is done without step %zu", saga,
                             step);
                if (row->status == FAILED || row->status == CANCELLED)
                        MUST(s, !things[step].there || s->plan->steps[step].undo == NULL,
                             "saga %d gave up and left the thing of step %zu behind", saga, step);
        }
        s->counts.done += row->status == DONE;
        s->counts.failed += row->status == FAILED;
        s->counts.cancelled += row->status == CANCELLED;
        s->counts.attention += row->status == ATTENTION;
}
