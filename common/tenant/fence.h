/* The fence in a tenant's database: the highest number of an activity that has worked there. Whoever changes something
 * raises it to its own in the same transaction, so that a worker that was overtaken does nothing more. */
#pragma once

/* SQL that makes the table where it is missing; safe to run again. */
#define FENCE_TABLE                                                                                                    \
        "create schema if not exists tenantry;"                                                                        \
        "create table if not exists tenantry.fence ("                                                                  \
        "    only_row boolean primary key default true check (only_row),"                                              \
        "    fence bigint not null);"                                                                                  \
        "insert into tenantry.fence (fence) values (0) on conflict do nothing;"

/* Statements of a do block that raise the fence, or fail with TN409 where a newer activity has the database. fence:
 * decimal. The caller frees. */
char *fence_raise_sql(const char *fence);
/* sql (statements, each with its semicolon) in a transaction that first raises the fence and waits two seconds at most
 * for what a tenant may lock. The caller frees. */
char *fence_guarded_sql(const char *fence, const char *sql);
