/* How many signups are not ready yet: see load.h. */
#include "services/gateway/load.h"

#include "common/base/memory.h"

#define ASK_INTERVAL SECONDS(1)

static const char SQL_LOAD[] = "select signups_in_progress from gateway.load";

struct load {
        struct gateway *gateway;
        uv_timer_t timer;
        bool asking;
};

static void load_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct load *load = context;

        load->asking = false;
        if (err == NULL)
                load->gateway->signups_in_progress = pg_int(rows, 0, "signups_in_progress");
}

static void on_timer(uv_timer_t *timer)
{
        struct load *load = timer->data;
        struct service *service = load->gateway->service;

        if (!load->gateway->config->public_signup || load->asking || service->stopping ||
            !pg_pool_is_up(service->catalog))
                return;
        load->asking = true;
        pg_pool_exec(service->catalog, SECONDS(2), SQL_LOAD, NO_PARAMS, load_arrived, load);
}

struct load *load_new(struct gateway *gateway)
{
        struct load *load = NEW(struct load);

        load->gateway = gateway;
        uv_timer_init(&gateway->service->loop, &load->timer);
        load->timer.data = load;
        uv_timer_start(&load->timer, on_timer, 0, ASK_INTERVAL);
        return load;
}

static void free_load(uv_handle_t *handle)
{
        free(handle->data);
}

void load_free(struct load *load)
{
        if (load != NULL)
                uv_close((uv_handle_t *)&load->timer, free_load);
}
