/* Calls that block, off the loop: see blocking.h. */
#include "common/base/blocking.h"

#include "common/base/memory.h"

#include <utlist.h>

struct call {
        uv_work_t work;
        struct call *prev, *next;
        struct blocking *blocking;
        blocking_fn run, ended;
        void *context;
};

struct blocking {
        uv_loop_t *loop;
        size_t limit, running, owners;
        struct call *waiting;
};

static void blocking_run(uv_work_t *work)
{
        struct call *call = CONTAINER_OF(work, struct call, work);

        call->run(call->context);
}

static void blocking_ended(uv_work_t *work, int status);

static void blocking_start_waiting(struct blocking *blocking)
{
        while (blocking->waiting != NULL && blocking->running < blocking->limit) {
                struct call *call = blocking->waiting;
                int rc;

                DL_DELETE(blocking->waiting, call);
                blocking->running++;
                rc = uv_queue_work(blocking->loop, &call->work, blocking_run, blocking_ended);
                assert(rc == 0);
        }
}

static void blocking_free_when_done(struct blocking *blocking)
{
        if (blocking->owners == 0 && blocking->running == 0)
                free(blocking);
}

static void blocking_ended(uv_work_t *work, int status)
{
        struct call *call = CONTAINER_OF(work, struct call, work);
        struct blocking *blocking = call->blocking;

        (void)status;
        call->ended(call->context); /* may call again: its slot is still taken meanwhile */
        free(call);
        blocking->running--;
        blocking_start_waiting(blocking);
        blocking_free_when_done(blocking);
}

struct blocking *blocking_new(uv_loop_t *loop, size_t limit)
{
        struct blocking *blocking = NEW(struct blocking);

        blocking->loop = loop;
        blocking->limit = limit;
        blocking->owners = 1;
        return blocking;
}

struct blocking *blocking_share(struct blocking *blocking)
{
        blocking->owners++;
        return blocking;
}

void blocking_call(struct blocking *blocking, blocking_fn run_it, blocking_fn ended, void *context)
{
        struct call *call = NEW(struct call);

        call->blocking = blocking;
        call->run = run_it;
        call->ended = ended;
        call->context = context;
        DL_APPEND(blocking->waiting, call);
        blocking_start_waiting(blocking);
}

void blocking_free(struct blocking *blocking)
{
        if (blocking == NULL)
                return;
        blocking->owners--;
        blocking_free_when_done(blocking);
}
