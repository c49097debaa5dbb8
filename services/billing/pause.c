/* A moment's wait: see pause.h. */
#include "services/billing/pause.h"

#include "common/base/memory.h"
#include "common/service/service.h"

struct pause {
        uv_timer_t timer;
        void (*ended)(void *context);
        void *context;
};

static void pause_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void pause_cancel(struct pause *pause)
{
        if (pause != NULL)
                uv_close((uv_handle_t *)&pause->timer, pause_closed);
}

static void pause_over(uv_timer_t *timer)
{
        struct pause *pause = timer->data;

        pause_cancel(pause);
        pause->ended(pause->context);
}

struct pause *pause_begin(struct service *service, int64_t ms, void (*ended)(void *context), void *context)
{
        struct pause *pause = NEW(struct pause);

        pause->ended = ended;
        pause->context = context;
        uv_timer_init(&service->loop, &pause->timer);
        pause->timer.data = pause;
        uv_timer_start(&pause->timer, pause_over, (uint64_t)ms, 0);
        return pause;
}
