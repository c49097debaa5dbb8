/* A lease that one of all processes holds: see lease.h. */
#include "common/durable/lease.h"

#include "common/base/clock.h"
#include "common/base/memory.h"

#define ASK_INTERVAL SECONDS(1)
#define TIMEOUT      SECONDS(10)

static const char SQL_TAKE[] = "select catalog.take_lease($1, $2, $3::bigint) as fence";

static const char SQL_DROP[] = "select catalog.drop_lease($1, $2)";

struct lease {
        struct service *service;
        const char *name;
        int64_t ms;
        void (*answered)(void *context);
        void *context;
        bool asking, dropping, held;
        int64_t asked_at, until, fence;
};

struct lease *lease_new(struct service *service, const char *name, int64_t ms, void (*answered)(void *context),
                        void *context)
{
        struct lease *lease = NEW(struct lease);

        *lease = (struct lease){
                .service = service, .name = name, .ms = MIN(ms, MINUTES(60)), .answered = answered, .context = context
        };
        lease->asked_at = clock_boot_ms() - lease->ms;
        return lease;
}

void lease_free(struct lease *lease)
{
        free(lease);
}

static void lease_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct lease *lease = context;

        lease->asking = false;
        if (err != NULL)
                return;
        lease->held = pg_rows_count(rows) == 1 && pg_text(rows, 0, "fence") != NULL;
        if (lease->held) {
                lease->fence = pg_int(rows, 0, "fence");
                lease->until = lease->asked_at + lease->ms;
        }
        lease->answered(lease->context);
}

void lease_ask(struct lease *lease)
{
        int64_t now = clock_boot_ms();
        auto_free char *ms = mem_printf("%lld", (long long)lease->ms);

        if (lease->asking || lease->dropping || now < lease->asked_at + MIN(ASK_INTERVAL, lease->ms / 3))
                return;
        lease->asking = true;
        lease->asked_at = now;
        pg_pool_exec(lease->service->catalog, TIMEOUT, SQL_TAKE, PARAMS(lease->name, lease->service->instance, ms),
                     lease_taken, lease);
}

bool lease_is_held(const struct lease *lease)
{
        return lease->held && clock_boot_ms() < lease->until;
}

int64_t lease_fence(const struct lease *lease)
{
        return lease->fence;
}

static void lease_dropped(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct lease *lease = context;

        (void)rows;
        (void)err; /* then it expires by itself */
        lease->held = false;
        lease->dropping = false;
}

void lease_drop(struct lease *lease)
{
        if (!lease->held || lease->dropping ||
            lease->asking) /* a request is under way: its answer comes first, and answered() continues */
                return;
        lease->dropping = true;
        pg_pool_exec(lease->service->catalog, TIMEOUT, SQL_DROP, PARAMS(lease->name, lease->service->instance),
                     lease_dropped, lease);
}

bool lease_is_idle(const struct lease *lease)
{
        return !lease->asking && !lease->dropping;
}
