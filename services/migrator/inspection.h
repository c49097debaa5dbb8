/* One look into a tenant's database, which changes nothing: its ledger, its invalid indexes, its counters and, if
 * wanted, the fingerprint of its schema. */
#pragma once

#include "services/migrator/inspector.h"

struct inspection {
        struct inspector *inspector;
        struct migrator *migrator;
        char *id, *tenant;
        char *known;      /* the digests that the catalog has the objects of: a JSON list */
        char *changed_at; /* the last change of its ledger that the catalog knew of then; or NULL */
        bool urgent, with_schema, started;
        json_t *login;
        struct pg_conn *conn;
        struct inspection *prev, *next;
};

/* rows: of claim_inspections. */
struct inspection *inspection_new(struct inspector *inspector, struct migrator *migrator, const struct pg_rows *rows,
                                  int row);
/* Ends with inspector_ended. */
void inspection_start(struct inspection *inspection);
/* Drops it without a result. */
void inspection_free(struct inspection *inspection);
