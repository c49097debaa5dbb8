/* What a saga does next: see saga_rules.h. */
#include "common/durable/saga_rules.h"

#include "common/base/backoff.h"

static struct saga_decision rules_go_back(const struct saga_kind *kind, const struct saga_position *at, size_t from)
{
        for (size_t step = from; step-- > 0;)
                if (kind->steps[step].undo != NULL)
                        return (struct saga_decision){ .move = SAGA_UNDO, .to = step };
        return (struct saga_decision){ .move = SAGA_END, .outcome = at->cancelled ? "cancelled" : "failed" };
}

static struct saga_decision rules_fail(const struct saga_kind *kind, const struct saga_position *at)
{
        if (at->undoing || (at->kept && !at->cancelled) || at->step >= kind->no_return)
                return (struct saga_decision){ .move = SAGA_END, .outcome = "attention" };
        return rules_go_back(kind, at, at->step + 1); /* including the failed step: it may have done half of its work */
}

struct saga_decision saga_decide(const struct saga_kind *kind, const struct saga_position *at, enum step_result result,
                                 int64_t wait_ms)
{
        switch (result) {
        case STEP_DONE:
                if (at->undoing)
                        return rules_go_back(kind, at, at->step);
                if (at->step + 1 == kind->count)
                        return (struct saga_decision){ .move = SAGA_END, .outcome = "done" };
                return (struct saga_decision){ .move = SAGA_ADVANCE, .to = at->step + 1 };
        case STEP_WAIT:
                return (struct saga_decision){ .move = SAGA_PARK, .delay_ms = wait_ms };
        case STEP_RETRY:
        case STEP_HOLD:
                return (struct saga_decision){ .move = SAGA_PARK,
                                               .delay_ms = MAX(wait_ms, backoff_ms(at->attempt, at->random)) };
        case STEP_FAIL:
                return rules_fail(kind, at);
        case STEP_RESTART:
                assert(!at->undoing);
                return (struct saga_decision){ .move = SAGA_ADVANCE, .to = 0 };
        case STEP_PENDING:
                break;
        }
        assert(!"a pending step has no decision");
        return (struct saga_decision){ .move = SAGA_PARK, .delay_ms = SECONDS(60) };
}

bool saga_may_cancel(const struct saga_kind *kind, const struct saga_position *at)
{
        return !at->undoing && at->step < kind->no_return;
}

bool saga_is_overdue(const struct saga_kind *kind, const struct saga_position *at)
{
        return at->step_age_ms > kind->steps[at->step].limit_ms;
}
