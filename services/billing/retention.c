/* What is kept for a time only: see retention.h. */
#include "services/billing/retention.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/service/periodic.h"

#define FIRST    SECONDS(5)
#define INTERVAL MINUTES(10)
#define TIMEOUT  SECONDS(30)

static const char SQL_PRUNE[] = "select prune() as pruned";

struct retention {
        struct periodic *periodic;
};

static void retention_pruned(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct retention *retention = context;

        if (err != NULL)
                log_warn("old rows could not be removed; it will be tried again", "error", err->message, NULL);
        else if (pg_int(rows, 0, "pruned") > 0)
                periodic_act(retention->periodic); /* until nothing too old is left */
}

static void retention_act(void *context)
{
        struct retention *retention = context;

        periodic_ask(retention->periodic, TIMEOUT, SQL_PRUNE, NO_PARAMS, retention_pruned);
}

struct retention *retention_new(struct billing *billing)
{
        struct retention *retention = NEW(struct retention);

        retention->periodic = periodic_new(billing->service, FIRST, INTERVAL, retention_act, retention);
        return retention;
}

void retention_free(struct retention *retention)
{
        if (retention == NULL)
                return;
        periodic_free(retention->periodic);
        free(retention);
}
