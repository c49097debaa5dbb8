/* How many signups are not ready yet: see load.h. */
#include "services/gateway/load.h"

#include "common/base/memory.h"
#include "common/service/periodic.h"

#define ASK_INTERVAL SECONDS(1)

static const char SQL_LOAD[] = "select signups_in_progress from gateway.load";

struct load {
        struct gateway *gateway;
        struct periodic *periodic;
};

static void load_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct load *load = context;

        if (err == NULL)
                load->gateway->signups_in_progress = pg_int(rows, 0, "signups_in_progress");
}

static void load_act(void *context)
{
        struct load *load = context;

        if (load->gateway->config->public_signup)
                periodic_ask(load->periodic, SECONDS(2), SQL_LOAD, NO_PARAMS, load_arrived);
}

struct load *load_new(struct gateway *gateway)
{
        struct load *load = NEW(struct load);

        load->gateway = gateway;
        load->periodic = periodic_new(gateway->service, 0, ASK_INTERVAL, load_act, load);
        return load;
}

void load_free(struct load *load)
{
        if (load == NULL)
                return;
        periodic_free(load->periodic);
        free(load);
}
