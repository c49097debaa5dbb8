/* Durable timers in business time: see timers.h. */
#include "common/durable/timers.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/service/periodic.h"

#include <stdio.h>
#include <string.h>

#define INTERVAL 500
#define TIMEOUT  SECONDS(10)
#define BATCH    200 /* in one transaction, which takes about a second at most */

static const char SQL_FIRE[] = "select fire_timers($1::int) as due";

static const char SQL_NEXT[] = "select name, key from next_timer()";

static const char SQL_FIRE_ONE[] = "select fire_timer($1, $2)";

static const char SQL_PUT_OFF[] = "select put_timer_off($1, $2, $3)";

struct timers {
        struct periodic *periodic;
        void (*fired)(void *context);
        void *context;
        size_t alone;     /* how many more to fire one by one, since one of them made a whole batch fail */
        char *name, *key; /* the one being fired alone */
        char *failure;    /* why it must be postponed, or NULL */
};

static void timers_warn(const struct err *err)
{
        log_warn("timers could not be processed; it will be tried again", "error", err->message, NULL);
}

static void timers_forget(struct timers *timers)
{
        free(TAKE_PTR(timers->name));
        free(TAKE_PTR(timers->key));
        free(TAKE_PTR(timers->failure));
}

static void timers_one_put_off(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct timers *timers = context;

        (void)rows;
        if (err != NULL) {
                timers_warn(err); /* again at the next tick */
                return;
        }
        timers_forget(timers);
        periodic_act(timers->periodic);
}

static void timers_one_fired(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct timers *timers = context;

        (void)rows;
        if (err != NULL && strcmp(err->code, "database_away") == 0) {
                timers_warn(err); /* it was never asked: not its fault */
                return;
        }
        if (err != NULL) {
                timers->failure = mem_copy_text(err->message);
        } else {
                timers_forget(timers);
                timers->fired(timers->context);
        }
        periodic_act(timers->periodic);
}

static void timers_next_found(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct timers *timers = context;

        if (err != NULL) {
                timers_warn(err);
                return;
        }
        timers->alone = pg_rows_count(rows) > 0 ? timers->alone - 1 : 0;
        if (pg_rows_count(rows) == 0)
                return;
        timers->name = mem_copy_text(pg_text(rows, 0, "name"));
        timers->key = mem_copy_text(pg_text(rows, 0, "key"));
        periodic_act(timers->periodic);
}

static void timers_answered(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct timers *timers = context;
        int64_t due = err ? 0 : pg_int(rows, 0, "due");

        if (err != NULL) {
                timers_warn(err);
                timers->alone = BATCH;
        }
        if (due > 0)
                timers->fired(timers->context);
        if (due == BATCH) /* there may be more */
                periodic_act(timers->periodic);
}

static void timers_act(void *context)
{
        struct timers *timers = context;
        struct periodic *periodic = timers->periodic;
        char limit[8];

        snprintf(limit, sizeof(limit), "%d", BATCH);
        if (timers->failure != NULL)
                periodic_ask(periodic, TIMEOUT, SQL_PUT_OFF, PARAMS(timers->name, timers->key, timers->failure),
                             timers_one_put_off);
        else if (timers->name != NULL)
                periodic_ask(periodic, TIMEOUT, SQL_FIRE_ONE, PARAMS(timers->name, timers->key), timers_one_fired);
        else if (timers->alone > 0)
                periodic_ask(periodic, TIMEOUT, SQL_NEXT, NO_PARAMS, timers_next_found);
        else
                periodic_ask(periodic, TIMEOUT, SQL_FIRE, PARAMS(limit), timers_answered);
}

struct timers *timers_new(struct service *service, void (*fired)(void *context), void *context)
{
        struct timers *timers = NEW(struct timers);

        timers->fired = fired;
        timers->context = context;
        timers->periodic = periodic_new(service, INTERVAL, INTERVAL, timers_act, timers);
        return timers;
}

void timers_free(struct timers *timers)
{
        if (timers == NULL)
                return;
        periodic_free(timers->periodic);
        timers_forget(timers);
        free(timers);
}
