/* A worker's process as the saga engine sees it, without clock, loop or socket: the linker gives the engine these
 * functions in place of the real ones (see the Makefile). Timers, statements and calls become events of the
 * simulation; whatever a process hears of them, it hears by its own callbacks. */
#pragma once

#include "tests/unit/simulated.h"

#include "common/base/json.h"
#include "common/base/metrics.h"
#include "common/pg/pool.h"

#include <string.h>

enum { WORKERS = 3, HOLDS = 2, EVENTS_MOST = 256, REQUESTS_MOST = 64, TIMERS_MOST = 64, COLUMNS = 14 };

#define NEVER INT64_MAX

enum event_kind {
        EVENT_TIMER,
        EVENT_ARRIVED,  /* a request reaches the catalog or the outside world */
        EVENT_ANSWERED, /* its answer, or its time-out, reaches the worker */
        EVENT_KILL,
        EVENT_FREEZE,
        EVENT_CANCEL,
};

enum verb {
        VERB_LOOK,
        VERB_MAKE,
        VERB_REMOVE,
        VERB_CLAIM,
        VERB_RENEW,
        VERB_ADVANCE,
        VERB_PARK,
        VERB_HOLD,
        VERB_END,
        VERB_COUNT
};
enum answer { ANSWER_YES, ANSWER_NO, ANSWER_LOST, ANSWER_REFUSED, ANSWER_FORBIDDEN };

struct event {
        int64_t at;
        uint64_t order;
        enum event_kind kind;
        int worker, saga;
        unsigned owner; /* the worker's life this belongs to */
        uint64_t request, armed;
        enum verb verb;
        enum answer answer;
        int64_t answer_at, give_up_at;
        /* to the outside world */
        uint64_t fence;
        size_t step;
        int generation;
        bool undoing;
        /* to the catalog, and what it answers */
        bool listed[SAGAS]; /* asked: what the worker holds; answered: the rows it gets */
        size_t limit;
        struct writing writing;
        struct row rows[SAGAS];
        int64_t step_age[SAGAS];
        bool cancel;
};

struct request { /* somebody waits for its answer */
        uint64_t id;
        int worker;
        pg_done_fn done; /* a statement; else a call of a step */
        void *context;
};

struct timer {
        uv_timer_t *handle;
        uv_timer_cb tick;
        int worker;
        int64_t repeat;
        uint64_t armed; /* 0: stopped */
        uv_close_cb closed;
        bool closing;
};

struct worker {
        struct service service;
        struct saga_engine *engine;
        unsigned owner;
        int64_t frozen_until;
        bool dead;
};

struct simulation {
        struct simulated world;
        struct plan plan;
        struct worker workers[WORKERS];
        int current; /* the worker whose code runs */
        struct event events[EVENTS_MOST];
        size_t event_count;
        struct request requests[REQUESTS_MOST];
        struct timer timers[TIMERS_MOST];
        uint64_t orders, ids;
        unsigned owners;
        unsigned lost, refused;      /* per thousand, while the chaos lasts */
        unsigned forbidden;          /* by the catalog, and by those who refuse our token; per thousand */
        size_t bad_step;             /* refuses for good */
        bool bad_undo, stuck, never; /* stuck: the first generation does not become ready; never: none does */
        bool has_bad_step;
};

static struct simulation *the; /* the one that runs now */

#define LEASE SECONDS(6)
#define CHAOS SECONDS(90)
#define TAIL  200 /* an effect may arrive this long after its caller has given up: less than the engine's margin */

static bool in_chaos(void)
{
        return the->world.now < CHAOS;
}

static void plan_event(int64_t at, struct event event)
{
        if (the->event_count == EVENTS_MOST)
                abort();
        event.at = at;
        event.order = ++the->orders;
        the->events[the->event_count++] = event;
}

static struct event next_event(void)
{
        size_t first = 0;
        struct event event;

        for (size_t i = 1; i < the->event_count; i++)
                if (the->events[i].at < the->events[first].at ||
                    (the->events[i].at == the->events[first].at && the->events[i].order < the->events[first].order))
                        first = i;
        event = the->events[first];
        the->events[first] = the->events[--the->event_count];
        return event;
}

static int64_t latency(void)
{
        if (in_chaos() && chance(&the->world, 30))
                return draw_between(&the->world, 200, SECONDS(12));
        return draw_between(&the->world, 1, 60);
}

/* A request of the current worker sets out. It arrives or not, its answer comes or not; the worker hears at the latest
 * when its time is over. */
static void send_request(int64_t timeout, struct event event, pg_done_fn done, void *context)
{
        struct request *request = the->requests;
        int64_t arrives = the->world.now + latency();

        MUST(&the->world, !the->workers[the->current].dead, "a dead worker speaks");
        while (request->id != 0)
                if (++request == the->requests + REQUESTS_MOST)
                        abort();
        *request = (struct request){ ++the->ids, the->current, done, context };
        event.request = request->id;
        event.worker = the->current;
        event.owner = the->workers[the->current].owner;
        event.give_up_at = the->world.now + timeout;
        event.answer_at = in_chaos() && chance(&the->world, the->lost) ? NEVER : arrives + latency();
        if (arrives <= event.give_up_at + TAIL) {
                event.kind = EVENT_ARRIVED;
                plan_event(arrives, event);
        }
        if (event.answer_at > event.give_up_at) {
                event.kind = EVENT_ANSWERED;
                event.answer = ANSWER_LOST;
                plan_event(event.give_up_at, event);
        }
}

/* The clock, and chance. */

int64_t __wrap_clock_boot_ms(void);
int64_t __wrap_clock_boot_ms(void)
{
        return the->workers[the->current].dead ? NEVER / 2 : the->world.now;
}

void __wrap_crypto_random(void *out, size_t length);
void __wrap_crypto_random(void *out, size_t length)
{
        for (size_t i = 0; i < length; i++)
                ((unsigned char *)out)[i] = (unsigned char)draw(&the->world);
}

/* Timers. */

static struct timer *find_timer(const uv_timer_t *handle)
{
        for (struct timer *timer = the->timers; timer < the->timers + TIMERS_MOST; timer++)
                if (timer->handle == handle)
                        return timer;
        abort();
}

static void arm(struct timer *timer, int64_t delay)
{
        timer->armed = ++the->ids;
        plan_event(the->world.now + delay, (struct event){ .kind = EVENT_TIMER,
                                                           .worker = timer->worker,
                                                           .owner = the->workers[timer->worker].owner,
                                                           .armed = timer->armed });
}

int __wrap_uv_timer_init(uv_loop_t *loop, uv_timer_t *handle);
int __wrap_uv_timer_init(uv_loop_t *loop, uv_timer_t *handle)
{
        (void)loop;
        *find_timer(NULL) = (struct timer){ .handle = handle, .worker = the->current };
        return 0;
}

int __wrap_uv_timer_start(uv_timer_t *handle, uv_timer_cb tick, uint64_t timeout, uint64_t repeat);
int __wrap_uv_timer_start(uv_timer_t *handle, uv_timer_cb tick, uint64_t timeout, uint64_t repeat)
{
        struct timer *timer = find_timer(handle);

        timer->tick = tick;
        timer->repeat = (int64_t)repeat;
        arm(timer, (int64_t)timeout);
        return 0;
}

int __wrap_uv_timer_stop(uv_timer_t *handle);
int __wrap_uv_timer_stop(uv_timer_t *handle)
{
        find_timer(handle)->armed = 0;
        return 0;
}

void __wrap_uv_close(uv_handle_t *handle, uv_close_cb closed);
void __wrap_uv_close(uv_handle_t *handle, uv_close_cb closed)
{
        struct timer *timer = find_timer((uv_timer_t *)handle);

        timer->armed = 0;
        timer->closing = true;
        timer->closed = closed;
}

/* As libuv does: the end of a handle is told when all other code has returned. */
static void tell_closed(void)
{
        for (struct timer *timer = the->timers; timer < the->timers + TIMERS_MOST; timer++)
                if (timer->closing) {
                        struct timer gone = *timer;

                        *timer = (struct timer){ 0 };
                        if (gone.closed != NULL)
                                gone.closed((uv_handle_t *)gone.handle);
                }
}

/* The poll comes at odd moments, and not so often that it takes all the time of the test. */
static void tick(struct timer *timer)
{
        if (timer->repeat == 0)
                timer->armed = 0;
        else
                arm(timer, timer->repeat < 1000 ? draw_between(&the->world, 300, 1500) : timer->repeat);
        timer->tick(timer->handle);
}

/* Statements. */

bool __wrap_pg_pool_is_up(const struct pg_pool *pool);
bool __wrap_pg_pool_is_up(const struct pg_pool *pool)
{
        (void)pool;
        return true;
}

static void name_saga(char out[24], int saga)
{
        snprintf(out, 24, "saga-%d", saga);
}

static void read_list(bool listed[SAGAS], const char *text)
{
        char name[24];

        for (int saga = 0; saga < SAGAS; saga++) {
                name_saga(name, saga);
                listed[saga] = strstr(text, name) != NULL;
        }
}

static size_t read_step(const char *name)
{
        size_t step = 0;

        while (strcmp(the->plan.steps[step].name, name) != 0)
                if (++step == the->plan.kind.count)
                        abort();
        return step;
}

static void read_error(char code[24], const char *text)
{
        auto_json *error = NULL;

        code[0] = '\0';
        if (text != NULL && json_parse(text, strlen(text), &error, NULL) == 0)
                snprintf(code, 24, "%s", json_text(error, "code"));
}

static struct facts read_facts(const char *text)
{
        auto_json *data = NULL;
        struct err err;

        if (json_parse(text, strlen(text), &data, &err) < 0)
                abort();
        return (struct facts){ (int)json_integer_value(json_object_get(data, "generation")),
                               json_flag(data, "cancelled") };
}

static enum status read_status(const char *name)
{
        static const char *const names[] = { "running", "undoing", "done", "failed", "cancelled", "attention" };
        enum status status = RUNNING;

        while (strcmp(names[status], name) != 0)
                if (status++ == ATTENTION)
                        abort();
        return status;
}

static struct event read_statement(const char *sql, const char *const *params)
{
        struct event event = { .verb = VERB_COUNT };
        struct writing *w = &event.writing;

        if (strstr(sql, "saga_claim(") != NULL) {
                event.verb = VERB_CLAIM;
                event.limit = strtoul(params[4], NULL, 10);
                read_list(event.listed, params[2]);
        } else if (strstr(sql, "saga_renew(") != NULL) {
                event.verb = VERB_RENEW;
                read_list(event.listed, params[1]);
        } else if (strstr(sql, "saga_") != NULL && strstr(sql, "saga_backlog(") == NULL) {
                event.saga = params[0][strlen("saga-")] - '0';
                w->fence = strtoull(params[1], NULL, 10);
        }
        if (strstr(sql, "saga_advance(") != NULL) {
                event.verb = VERB_ADVANCE;
                w->from = read_step(params[2]);
                w->to = read_step(params[3]);
                w->status = read_status(params[4]);
                w->facts = read_facts(params[6]);
                read_error(w->code, params[7]);
        } else if (strstr(sql, "saga_park(") != NULL) {
                event.verb = VERB_PARK;
                w->facts = read_facts(params[2]);
                w->delay_ms = strtoll(params[3], NULL, 10);
                w->failed = params[4][0] == 't';
                read_error(w->code, params[5]);
        } else if (strstr(sql, "saga_hold(") != NULL) {
                event.verb = VERB_HOLD;
                w->keeps_facts = params[2] == NULL;
                if (!w->keeps_facts)
                        w->facts = read_facts(params[2]);
                w->delay_ms = strtoll(params[3], NULL, 10);
                w->failed = true;
                read_error(w->code, params[4]);
        } else if (strstr(sql, "saga_end(") != NULL) {
                event.verb = VERB_END;
                w->from = read_step(params[2]);
                w->status = read_status(params[3]);
                w->facts = read_facts(params[4]);
                read_error(w->code, params[5]);
        }
        return event;
}

void __wrap_pg_pool_exec(struct pg_pool *pool, int64_t timeout_ms, const char *sql, size_t count,
                         const char *const *params, pg_done_fn done, void *context);
void __wrap_pg_pool_exec(struct pg_pool *pool, int64_t timeout_ms, const char *sql, size_t count,
                         const char *const *params, pg_done_fn done, void *context)
{
        (void)pool;
        (void)count;
        send_request(timeout_ms, read_statement(sql, params), done, context);
}

/* Rows, as text by column. */

struct pg_rows {
        int count;
        struct {
                size_t columns;
                const char *name[COLUMNS];
                char text[COLUMNS][48];
        } row[SAGAS];
};

static void put_text(struct pg_rows *rows, const char *name, const char *text)
{
        size_t column = rows->row[rows->count].columns++;

        rows->row[rows->count].name[column] = name;
        snprintf(rows->row[rows->count].text[column], 48, "%s", text);
}

static void put_number(struct pg_rows *rows, const char *name, int64_t number)
{
        char text[24];

        snprintf(text, sizeof(text), "%" PRId64, number);
        put_text(rows, name, text);
}

static void put_claimed(struct pg_rows *rows, const struct row *row, int64_t step_age)
{
        char text[48];

        put_text(rows, "tenant_id", "the tenant");
        put_text(rows, "kind", the->plan.kind.name);
        put_text(rows, "step", the->plan.steps[row->step].name);
        put_text(rows, "status", row->status == UNDOING ? "undoing" : "running");
        put_number(rows, "attempt", row->attempt);
        put_number(rows, "crashes", row->crashes);
        put_number(rows, "fence", (int64_t)row->fence);
        put_number(rows, "step_age_ms", step_age);
        put_text(rows, "background", "f");
        snprintf(text, sizeof(text), "{\"generation\":%d,\"cancelled\":%s}", row->facts.generation,
                 row->facts.cancelled ? "true" : "false");
        put_text(rows, "data", text);
        snprintf(text, sizeof(text), "{\"code\":\"%s\"}", row->code);
        put_text(rows, "error", row->code[0] != '\0' ? text : "");
        put_text(rows, "context", "{}");
}

static struct pg_rows print_answer(const struct event *event)
{
        struct pg_rows rows = { 0 };
        char name[24];

        if (event->verb == VERB_CLAIM || event->verb == VERB_RENEW) {
                for (int saga = 0; saga < SAGAS; saga++) {
                        if (!event->listed[saga])
                                continue;
                        name_saga(name, saga);
                        put_text(&rows, "saga_id", name);
                        put_text(&rows, "cancel_wanted", event->rows[saga].cancel_wanted ? "t" : "f");
                        if (event->verb == VERB_CLAIM)
                                put_claimed(&rows, &event->rows[saga], event->step_age[saga]);
                        rows.count++;
                }
                return rows;
        }
        put_text(&rows, "cancel", event->cancel ? "t" : "f");
        put_text(&rows, "due", "0");
        put_text(&rows, "oldest_seconds", "0");
        rows.count = 1;
        return rows;
}

int __wrap_pg_rows_count(const struct pg_rows *rows);
int __wrap_pg_rows_count(const struct pg_rows *rows)
{
        return rows->count;
}

const char *__wrap_pg_text(const struct pg_rows *rows, int row, const char *column);
const char *__wrap_pg_text(const struct pg_rows *rows, int row, const char *column)
{
        for (size_t i = 0; i < rows->row[row].columns; i++)
                if (strcmp(rows->row[row].name[i], column) == 0)
                        return rows->row[row].text[i][0] != '\0' ? rows->row[row].text[i] : NULL;
        abort();
}

int64_t __wrap_pg_int(const struct pg_rows *rows, int row, const char *column);
int64_t __wrap_pg_int(const struct pg_rows *rows, int row, const char *column)
{
        return strtoll(__wrap_pg_text(rows, row, column), NULL, 10);
}

bool __wrap_pg_bool(const struct pg_rows *rows, int row, const char *column);
bool __wrap_pg_bool(const struct pg_rows *rows, int row, const char *column)
{
        return __wrap_pg_text(rows, row, column)[0] == 't';
}
