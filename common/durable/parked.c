/* Takes parked events: see parked.h. */
#include "common/durable/parked.h"

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/memory.h"

#include <string.h>

#define STATEMENT_TIMEOUT SECONDS(10)
#define LOOK_INTERVAL     SECONDS(30)

static const char SQL_NEXT[] = "select id, event, data from parked_next($1::text[], $2::bigint)";

static const char SQL_TAKE[] = "select take_parked($1::bigint, $2::jsonb, $3, $4, $5)";

struct parked {
        struct service *service;
        struct intake_settings settings;
        uv_timer_t timer;
        char after[24]; /* the last one checked in this round */
        bool stopped;
};

static void parked_ask_next(struct parked *parked);

static void parked_event_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct parked *parked = context;

        (void)rows;
        if (err != NULL)
                log_error("a parked event cannot be taken; it stays parked", "error", err->message, NULL);
        if (!parked->stopped && (err == NULL || !err_is_transient(err)))
                parked_ask_next(parked); /* whatever happened to this one */
}

/* The contract is checked as for any event: it was unknown when the event was parked. NULL and *err if it is
 * violated. */
static json_t *parked_judge(const struct parked *parked, const char *event, const char *data, struct err *err)
{
        auto_json *described = NULL, *given = NULL;
        json_t *judged = NULL;
        const struct contract *contract;

        if (json_parse(event, strlen(event), &described, err) < 0 || json_parse(data, strlen(data), &given, err) < 0)
                return NULL;
        contract = contract_find(parked->settings.contracts, json_text(described, "type"));
        if (contract == NULL || contract_check_topic(contract, json_text(described, "topic"), err) < 0 ||
            contract_check_form(contract, json_flag(described, "is_raw"), err) < 0 ||
            contract_check(contract, json_text(described, "key"), given, &judged, err) < 0)
                return NULL;
        if (parked->settings.enrich != NULL)
                parked->settings.enrich(parked->settings.context, judged);
        return judged;
}

static void parked_event_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct parked *parked = context;
        auto_json *data = NULL;
        auto_free char *text = NULL;
        struct err refused = { 0 };

        if (err != NULL || pg_rows_count(rows) == 0 || parked->stopped)
                return;
        snprintf(parked->after, sizeof(parked->after), "%s", pg_text(rows, 0, "id"));
        data = parked_judge(parked, pg_text(rows, 0, "event"), pg_text(rows, 0, "data"), &refused);
        text = data ? json_print(data) : NULL;
        pg_pool_exec(parked->service->catalog, STATEMENT_TIMEOUT, SQL_TAKE,
                     PARAMS(parked->after, text, refused.class ? refused.code : NULL,
                            refused.field[0] ? refused.field : NULL, refused.class ? refused.message : NULL),
                     parked_event_taken, parked);
}

static void parked_ask_next(struct parked *parked)
{
        auto_buf types = { 0 };

        for (const struct contract *c = parked->settings.contracts; c->type != NULL; c++)
                buf_printf(&types, "%s%s", types.length ? "," : "{", c->type);
        buf_add_text(&types, "}");
        pg_pool_exec(parked->service->catalog, STATEMENT_TIMEOUT, SQL_NEXT, PARAMS(types.data, parked->after),
                     parked_event_arrived, parked);
}

static void parked_look(uv_timer_t *timer)
{
        struct parked *parked = timer->data;

        snprintf(parked->after, sizeof(parked->after), "0");
        parked_ask_next(parked);
}

struct parked *parked_new(struct service *service, const struct intake_settings *settings)
{
        struct parked *parked = NEW(struct parked);

        parked->service = service;
        parked->settings = *settings;
        uv_timer_init(&service->loop, &parked->timer);
        parked->timer.data = parked;
        uv_timer_start(&parked->timer, parked_look, 0, LOOK_INTERVAL);
        return parked;
}

void parked_stop(struct parked *parked)
{
        parked->stopped = true;
        uv_timer_stop(&parked->timer);
}

static void parked_on_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void parked_free(struct parked *parked)
{
        if (parked != NULL)
                uv_close((uv_handle_t *)&parked->timer, parked_on_closed);
}
