/* The fence in a tenant's database: the highest number of any activity that has worked there. An activity that changes
 * something raises it to its own number in the same transaction, so that an overtaken worker has no further effect. */
#pragma once

/* SQL that creates the table if missing; safe to run again. */
#define FENCE_TABLE                                                                                                    \
        "create schema if not exists tenantry;"                                                                        \
        "create table if not exists tenantry.fence ("                                                                  \
        "    only_row boolean primary key default true check (only_row),"                                              \
        "    fence bigint not null);"                                                                                  \
        "insert into tenantry.fence (fence) values (0) on conflict do nothing;"

/* Statements for a do block that raise the fence, or fail with TN409 if a newer activity has the database. fence:
 * decimal. The caller frees. */
char *fence_raise_sql(const char *fence);
/* sql (statements, each with its semicolon) in a transaction that first raises the fence and waits at most two seconds
 * for locks that a tenant may hold. The caller frees. */
char *fence_guarded_sql(const char *fence, const char *sql);
