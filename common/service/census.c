/* Counts what is in the catalog: see census.h. */
#include "common/service/census.h"

#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/service/periodic.h"

#include <string.h>

#define INTERVAL SECONDS(10)

static const char SQL_CENSUS[] = "select what, label, count, extract(epoch from at)::text as at from catalog.census()";

static const struct {
        const char *what, *name, *label, *help;
} COUNTED[] = {
        { "tenants", "tenantry_tenants", "state", "Tenants, by state." },
        { "alerts", "tenantry_alerts_open", "cause", "Open alerts, by the first part of their cause." },
        { "dead_letters", "tenantry_dead_letters", "code", "Stored dead letters, by code." },
        { "parked", "tenantry_parked_events", "reason", "Events waiting for something they need, by reason." },
};

struct census {
        struct periodic *periodic;
        struct metric_family *counts[ARRAY_SIZE(COUNTED)];
        struct metric *at;
};

static void census_count_row(struct census *census, const struct pg_rows *rows, int row)
{
        for (size_t i = 0; i < ARRAY_SIZE(COUNTED); i++)
                if (strcmp(COUNTED[i].what, pg_text(rows, row, "what")) == 0)
                        metric_set(METRIC_OF(census->counts[i], pg_text(rows, row, "label")),
                                   (double)pg_int(rows, row, "count"));
}

static void census_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct census *census = context;

        if (err != NULL)
                return; /* the numbers stay, and so does their time, which shows how old they are */
        for (size_t i = 0; i < ARRAY_SIZE(COUNTED); i++)
                metric_family_set(census->counts[i], 0);
        for (int row = 0; row < pg_rows_count(rows); row++)
                census_count_row(census, rows, row);
        if (pg_rows_count(rows) > 0)
                metric_set(census->at, strtod(pg_text(rows, 0, "at"), NULL));
}

static void census_act(void *context)
{
        struct census *census = context;

        periodic_ask(census->periodic, SECONDS(5), SQL_CENSUS, NO_PARAMS, census_arrived);
}

struct census *census_new(struct service *service)
{
        struct census *census = NEW(struct census);

        for (size_t i = 0; i < ARRAY_SIZE(COUNTED); i++)
                census->counts[i] = metric_gauge_family(COUNTED[i].name, COUNTED[i].label, COUNTED[i].help);
        census->at = metric_gauge("tenantry_census_timestamp_seconds", NULL, "When the catalog was last counted.");
        census->periodic = periodic_new(service, SECONDS(1), INTERVAL, census_act, census);
        return census;
}

void census_free(struct census *census)
{
        if (census == NULL)
                return;
        periodic_free(census->periodic);
        free(census);
}
