/* The marker in a tenant's database: which tenant and generation it belongs to. Checked on every connection before
 * anything is done there. */
#pragma once

#include "common/base/err.h"
#include "common/pg/pg.h"

/* SQL that creates the marker's table if missing; safe to run again. */
#define IDENTITY_TABLE                                                                                                 \
        "create schema if not exists tenantry;"                                                                        \
        "create table if not exists tenantry.identity ("                                                               \
        "    only_row boolean primary key default true check (only_row),"                                              \
        "    tenant_id uuid not null,"                                                                                 \
        "    generation int not null,"                                                                                 \
        "    planted_at timestamptz not null default clock_timestamp());"

/* The query; identity_check checks its result. */
#define IDENTITY_QUERY "select tenant_id, generation from tenantry.identity"

/* rows: from IDENTITY_QUERY, or a join with it: the marker is in each. Returns 0, or -ERR_PERMANENT (wrong_identity)
 * for another tenant's database or one without a marker: there is no other database to fall back to, and nothing may be
 * done in this one. */
int identity_check(const struct pg_rows *rows, const char *tenant_id, int generation, struct err *err);
