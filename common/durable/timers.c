/* Durable timers in business time: see timers.h. */
#include "common/durable/timers.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/service/periodic.h"

#include <stdio.h>

#define INTERVAL 500
#define BATCH    50 /* in one transaction */

static const char SQL_FIRE[] = "select fire_timers($1::int) as due";

struct timers {
        struct periodic *periodic;
        void (*fired)(void *context);
        void *context;
};

static void timers_answered(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct timers *timers = context;
        int64_t due = err ? 0 : pg_int(rows, 0, "due");

        if (err != NULL)
                log_warn("timers could not be processed; it will be tried again", "error", err->message, NULL);
        if (due > 0)
                timers->fired(timers->context);
        if (due == BATCH) /* there may be more */
                periodic_act(timers->periodic);
}

static void timers_act(void *context)
{
        struct timers *timers = context;
        char limit[8];

        snprintf(limit, sizeof(limit), "%d", BATCH);
        periodic_ask(timers->periodic, SECONDS(10), SQL_FIRE, PARAMS(limit), timers_answered);
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
        free(timers);
}
