/* A few connections to one database: see pool.h. */
#include "common/pg/pool.h"

#include "common/base/clock.h"
#include "common/base/memory.h"

#include <string.h>
#include <utlist.h>

#define POOL_MAGIC       0x706f6f6c
#define POOL_QUEUE_LIMIT 20000
#define BACKOFF_LEAST    100
#define BACKOFF_MOST     SECONDS(2)
#define SWEEP_INTERVAL   250
#define SETUP_TIMEOUT    SECONDS(5)

struct pg_work {
        struct pg_work *prev, *next;
        char *sql;
        size_t count;
        char **params;
        int64_t give_up_at;
        pg_more_time_fn more_time; /* NULL = no more time than it had initially */
        pg_done_fn done;
        void *context;
};

enum slot_state { SLOT_CLOSED, SLOT_OPENING, SLOT_FREE, SLOT_WORKING };

struct pg_slot {
        struct pg_pool *pool;
        struct pg_conn *conn;
        enum slot_state state;
        struct pg_work *work;
};

struct pg_pool {
        unsigned magic;
        uv_loop_t *loop;
        uv_timer_t sweep;
        struct pg_target target;
        size_t size, queued, working;
        struct pg_work *queue;
        struct err error;
        bool up, closing;
        int64_t backoff_ms, retry_at, down_since;
        void (*changed)(void *context, bool up);
        void *changed_context;
        struct pg_slot slots[];
};

static void pool_serve(struct pg_pool *pool);

static void pool_empty_work(struct pg_work *work)
{
        for (size_t i = 0; i < work->count; i++)
                mem_free_secret(work->params[i]);
        work->count = 0;
        mem_free_secret(TAKE_PTR(work->sql));
        free(TAKE_PTR(work->params));
}

static void pool_free_work(struct pg_work *work)
{
        pool_empty_work(work);
        free(work);
}

static void pool_finish_work(struct pg_work *work, const struct pg_rows *rows, const struct err *err)
{
        work->done(work->context, rows, err);
        pool_free_work(work);
}

static void pool_set_up(struct pg_pool *pool, bool up)
{
        if (pool->up == up)
                return;
        pool->up = up;
        pool->down_since = clock_boot_ms();
        if (up)
                pool->error = (struct err){ 0 };
        if (pool->changed != NULL)
                pool->changed(pool->changed_context, up);
}

static void pool_drop_connection(struct pg_slot *slot)
{
        pg_close(TAKE_PTR(slot->conn));
        slot->state = SLOT_CLOSED;
}

/* Whether any connection is left: a pool that loses one of several, or may not open another, still works. */
static bool pool_has_connection(const struct pg_pool *pool)
{
        for (size_t i = 0; i < pool->size; i++)
                if (pool->slots[i].state == SLOT_FREE || pool->slots[i].state == SLOT_WORKING)
                        return true;
        return false;
}

static void pool_connection_failed(struct pg_slot *slot, const struct err *err)
{
        struct pg_pool *pool = slot->pool;

        pool_drop_connection(slot);
        pool->error = *err;
        pool->backoff_ms = MIN(MAX(pool->backoff_ms * 2, BACKOFF_LEAST), BACKOFF_MOST);
        pool->retry_at = clock_boot_ms() + pool->backoff_ms;
        pool_set_up(pool, pool_has_connection(pool));
        if (pool->up)
                pool->error = (struct err){ 0 };
}

static void pool_connection_lost(void *context, const struct err *err)
{
        pool_connection_failed(context, err);
}

/* Not by startup parameters: a pooler, even one in session mode, would not know them. */
static void pool_connection_prepared(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct pg_slot *slot = context;

        (void)rows;
        if (err != NULL) {
                pool_connection_failed(slot, err);
                return;
        }
        slot->pool->backoff_ms = 0;
        slot->state = SLOT_FREE;
        pg_on_lost(slot->conn, pool_connection_lost, slot);
        pool_set_up(slot->pool, true);
        pool_serve(slot->pool);
}

static void pool_connection_opened(void *context, const struct err *err)
{
        struct pg_slot *slot = context;

        if (err != NULL) {
                pool_connection_failed(slot, err);
                return;
        }
        if (slot->pool->target.setup != NULL)
                pg_script(slot->conn, SETUP_TIMEOUT, slot->pool->target.setup, pool_connection_prepared, slot);
        else
                pool_connection_prepared(slot, NULL, NULL);
}

static void pool_open_connection(struct pg_slot *slot)
{
        slot->state = SLOT_OPENING;
        slot->conn = pg_open(slot->pool->loop, &slot->pool->target, pool_connection_opened, slot);
}

static void pool_statement_done(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct pg_slot *slot = context;
        struct pg_pool *pool = slot->pool;
        struct pg_work *work = TAKE_PTR(slot->work);
        struct err ours;

        slot->state = SLOT_FREE;
        pool->working--;
        if (err != NULL && !pg_is_usable(slot->conn))
                pool_connection_failed(slot, err);
        if (err != NULL && pool->target.is_ours && pg_cannot_run(err)) {
                ours = *err;
                ours.class = ERR_OURS;
                err = &ours;
        }
        pool_finish_work(work, rows, err);
        pool_serve(pool);
}

static int64_t pool_more_time_for_work(void *context)
{
        struct pg_slot *slot = context;

        return slot->work->more_time(slot->work->context);
}

static void pool_start_work(struct pg_slot *slot)
{
        struct pg_pool *pool = slot->pool;
        struct pg_work *work = pool->queue;

        DL_DELETE(pool->queue, work);
        pool->queued--;
        pool->working++;
        slot->work = work;
        slot->state = SLOT_WORKING;
        pg_exec(slot->conn, MAX(1, work->give_up_at - clock_boot_ms()), work->sql, work->count,
                (const char *const *)work->params, pool_statement_done, slot);
        if (work->more_time != NULL)
                pg_may_take_longer(slot->conn, pool_more_time_for_work);
}

static size_t pool_count_opening(const struct pg_pool *pool)
{
        size_t count = 0;

        for (size_t i = 0; i < pool->size; i++)
                count += pool->slots[i].state == SLOT_OPENING;
        return count;
}

/* A statement whose time is up is no longer sent: its caller may have lost the right to it meanwhile. */
static void pool_give_up(struct pg_pool *pool, struct pg_work *work)
{
        struct err err;

        err_set(&err, ERR_BUSY, "database_away", "the database is not reachable: %.300s",
                pool->error.message[0] ? pool->error.message : "no connection became free in time");
        DL_DELETE(pool->queue, work);
        pool->queued--;
        pool_finish_work(work, NULL, &err);
}

static struct pg_work *pool_find_expired(const struct pg_pool *pool)
{
        int64_t now = clock_boot_ms();
        struct pg_work *work;

        DL_FOREACH (pool->queue, work)
                if (work->give_up_at <= now)
                        return work;
        return NULL;
}

/* Starts from the front each time: a callback may queue another statement, and change the queue. */
static void pool_give_up_old_work(struct pg_pool *pool)
{
        struct pg_work *work;

        while ((work = pool_find_expired(pool)) != NULL)
                pool_give_up(pool, work);
}

/* Assigns queued statements to free connections, and opens as many more as the queue needs. */
static void pool_serve(struct pg_pool *pool)
{
        bool may_open = clock_boot_ms() >= pool->retry_at;

        if (pool->closing)
                return;
        while (pool->queue != NULL && pool->queue->give_up_at <= clock_boot_ms()) /* after a freeze, all of them */
                pool_give_up(pool, pool->queue);
        for (size_t i = 0; i < pool->size && pool->queue != NULL; i++)
                if (pool->slots[i].state == SLOT_FREE)
                        pool_start_work(&pool->slots[i]);
        for (size_t i = 0; i < pool->size && may_open && pool->queued > pool_count_opening(pool); i++)
                if (pool->slots[i].state == SLOT_CLOSED)
                        pool_open_connection(&pool->slots[i]);
}

/* A pool that is down tries one connection on its own, so that readiness returns without a request. */
static void pool_on_sweep(uv_timer_t *timer)
{
        struct pg_pool *pool = timer->data;

        CHECK_MAGIC(pool, POOL_MAGIC);
        pool_give_up_old_work(pool);
        if (!pool->up && pool_count_opening(pool) == 0 && clock_boot_ms() >= pool->retry_at &&
            pool->slots[0].state == SLOT_CLOSED)
                pool_open_connection(&pool->slots[0]);
        pool_serve(pool);
}

struct pg_pool *pg_pool_new(uv_loop_t *loop, const struct pg_target *target, size_t size)
{
        struct pg_pool *pool = mem_alloc(1, sizeof(*pool) + size * sizeof(pool->slots[0]));

        pool->magic = POOL_MAGIC;
        pool->loop = loop;
        pool->size = size;
        pool->down_since = clock_boot_ms();
        pool->target = (struct pg_target){
                .url = mem_copy_text(target->url),
                .host = mem_copy_text(target->host),
                .port = mem_copy_text(target->port),
                .dbname = mem_copy_text(target->dbname),
                .user = mem_copy_text(target->user),
                .password = mem_copy_text(target->password),
                .application_name = mem_copy_text(target->application_name),
                .setup = mem_copy_text(target->setup),
                .sslmode = mem_copy_text(target->sslmode),
                .connect_timeout_ms = target->connect_timeout_ms,
                .is_ours = target->is_ours,
        };
        for (size_t i = 0; i < size; i++)
                pool->slots[i].pool = pool;
        uv_timer_init(loop, &pool->sweep);
        pool->sweep.data = pool;
        uv_timer_start(&pool->sweep, pool_on_sweep, 0, SWEEP_INTERVAL);
        uv_unref((uv_handle_t *)&pool->sweep);
        return pool;
}

static void pool_closed(uv_handle_t *handle)
{
        struct pg_pool *pool = handle->data;

        mem_free_secret((char *)(uintptr_t)pool->target.url);
        mem_free_secret((char *)(uintptr_t)pool->target.password);
        free((char *)(uintptr_t)pool->target.host);
        free((char *)(uintptr_t)pool->target.port);
        free((char *)(uintptr_t)pool->target.dbname);
        free((char *)(uintptr_t)pool->target.user);
        free((char *)(uintptr_t)pool->target.application_name);
        free((char *)(uintptr_t)pool->target.setup);
        free((char *)(uintptr_t)pool->target.sslmode);
        free(pool);
}

/* Callers may be gone, so nobody is called back, and their contexts are not freed: pools end with their process. */
static void pool_abandon(struct pg_work *work)
{
        static struct pg_work *unanswered;

        pool_empty_work(work);
        LL_PREPEND(unanswered, work);
}

void pg_pool_free(struct pg_pool *pool)
{
        struct pg_work *work, *next;

        if (pool == NULL)
                return;
        pool->closing = true;
        DL_FOREACH_SAFE (pool->queue, work, next) {
                DL_DELETE(pool->queue, work);
                pool_abandon(work);
        }
        for (size_t i = 0; i < pool->size; i++) {
                pg_close(TAKE_PTR(pool->slots[i].conn));
                if (pool->slots[i].work != NULL)
                        pool_abandon(TAKE_PTR(pool->slots[i].work));
        }
        uv_close((uv_handle_t *)&pool->sweep, pool_closed);
}

static struct pg_work *pool_new_work(const char *sql, size_t count, const char *const *params, pg_done_fn done,
                                     void *context)
{
        struct pg_work *work = NEW(struct pg_work);

        work->sql = mem_copy_text(sql);
        work->count = count;
        work->params = mem_alloc(count, sizeof(char *));
        for (size_t i = 0; i < count; i++)
                work->params[i] = mem_copy_text(params[i]);
        work->done = done;
        work->context = context;
        return work;
}

static void pool_queue_work(struct pg_pool *pool, struct pg_work *work, int64_t timeout_ms)
{
        CHECK_MAGIC(pool, POOL_MAGIC);
        assert(!pool->closing);
        if (pool->queued >= POOL_QUEUE_LIMIT)
                timeout_ms = 0;                                  /* refused at the next sweep */
        work->give_up_at = clock_boot_ms() + MAX(1, timeout_ms); /* done must not be called before we return */
        DL_APPEND(pool->queue, work);
        pool->queued++;
        pool_serve(pool);
}

void pg_pool_exec(struct pg_pool *pool, int64_t timeout_ms, const char *sql, size_t count, const char *const *params,
                  pg_done_fn done, void *context)
{
        pool_queue_work(pool, pool_new_work(sql, count, params, done, context), timeout_ms);
}

void pg_pool_exec_for(struct pg_pool *pool, pg_more_time_fn more_time, const char *sql, size_t count,
                      const char *const *params, pg_done_fn done, void *context)
{
        struct pg_work *work = pool_new_work(sql, count, params, done, context);

        work->more_time = more_time;
        pool_queue_work(pool, work, more_time(context));
}

bool pg_pool_is_up(const struct pg_pool *pool)
{
        return pool->up;
}

int64_t pg_pool_down_ms(const struct pg_pool *pool)
{
        return pool->up ? 0 : clock_boot_ms() - pool->down_since;
}

size_t pg_pool_pending(const struct pg_pool *pool)
{
        return pool->queued + pool->working;
}

void pg_pool_on_change(struct pg_pool *pool, void (*changed)(void *context, bool up), void *context)
{
        pool->changed = changed;
        pool->changed_context = context;
}

const struct err *pg_pool_error(const struct pg_pool *pool)
{
        return &pool->error;
}
