/* Budgets shared by all processes: see rate_budget.h. A saga's place is stored in its data as turns.KEY = {place,
 * first}, by the catalog's clock only, since its reader may run on another host. KEY is the budget's name without what
 * precedes its colon: so the previous release wrote it. */
#include "common/durable/rate_budget.h"

#include "common/base/memory.h"

#include <string.h>

#define TURN_KEEPS "1000" /* ms */
#define TURN_EARLY 50     /* timers are not exact */

static const char SQL_TAKE[] = "select wait_ms, place, false as first"
                               " from catalog.take_token($1, $2::float8, $3::float8)";

static const char SQL_USE_TURN[] =
        "select wait_ms, place, first"
        " from catalog.use_turn($1, $2::float8, $3::float8, $4::timestamptz, $5::boolean, $6::bigint)";

static const char SQL_BLOCK[] = "select catalog.block_budget($1, $2::bigint)";

static const char *budget_turn(const char *name)
{
        const char *colon = strrchr(name, ':');

        return colon ? colon + 1 : name;
}

static void budget_keep_turn(struct saga *saga, const char *name, const char *place, bool first)
{
        json_t *data = saga_data(saga);

        if (json_object_get(data, "turns") == NULL)
                json_object_set_new(data, "turns", json_object());
        json_object_set_new(json_object_get(data, "turns"), budget_turn(name),
                            json_pack("{s:s, s:b}", "place", place, "first", first));
}

enum step_result rate_budget_ask(struct saga *saga, const struct rate_budget *budget, saga_rows_then then)
{
        json_t *turns = json_object_get(saga_data(saga), "turns");
        const json_t *turn = json_object_get(turns, budget_turn(budget->name));
        const char *first = json_flag(turn, "first") ? "true" : "false";
        double per_minute = (double)budget->per_minute;
        double at_once = MAX(1.0, MIN((double)budget->most_at_once, per_minute / 2));
        /* The other side counts per minute, wherever that begins: a burst and what is refilled within a minute are
         * together no more than the limit. */
        auto_free char *burst = mem_printf("%.3f", at_once),
                       *rate = mem_printf("%.6f", MAX(per_minute - at_once, per_minute / 2) / 60),
                       *place = mem_copy_text(json_text(turn, "place"));

        json_object_del(turns, budget_turn(budget->name));
        if (place == NULL)
                return saga_query(saga, SQL_TAKE, PARAMS(budget->name, burst, rate), then);
        return saga_query(saga, SQL_USE_TURN, PARAMS(budget->name, burst, rate, place, first, TURN_KEEPS), then);
}

int64_t rate_budget_wait(struct saga *saga, const char *name, const struct pg_rows *rows)
{
        int64_t wait = pg_int(rows, 0, "wait_ms");

        if (wait <= TURN_EARLY)
                return 0;
        budget_keep_turn(saga, name, pg_text(rows, 0, "place"), pg_bool(rows, 0, "first"));
        return wait;
}

void rate_budget_keep_turn(struct saga *saga, const char *name)
{
        budget_keep_turn(saga, name, "-infinity", false);
}

static void budget_blocked(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        (void)err; /* the answer gave us the limit; without the catalog nobody calls anyway */
}

void rate_budget_block(struct service *service, const char *name, int64_t ms)
{
        auto_free char *text = mem_printf("%lld", (long long)ms);

        pg_pool_exec(service->catalog, SECONDS(5), SQL_BLOCK, PARAMS(name, text), budget_blocked, NULL);
}
