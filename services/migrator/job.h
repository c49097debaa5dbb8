/* One tenant's part in a rollout: one connection, the run's files applied or taken back, the outcome. */
#pragma once

#include "services/migrator/fleet.h"

enum job_task { JOB_FORECAST, JOB_APPLY, JOB_UNDO };

struct job {
        struct fleet *fleet;
        struct migrator *migrator;
        char *id, *run, *tenant, *fence, *application_name;
        enum job_task task;
        bool started, marked;
        bool renewing; /* named in the renewal that is under way */
        bool unsure;   /* the connection was lost, or closed, while something was being applied */
        int attempts;
        int connections; /* that the server has; 0 = not known */
        int64_t lease_until;
        json_t *versions, *options, *login;
        const char **revert; /* the texts of versions, when undoing */
        struct registered *files;
        bool *wanted;
        struct pg_conn *conn;
        struct migration_job *migration;
        json_t *brought, *has; /* what the tenant has from this run, and in all; NULL = not known */
        size_t next_verify;
        struct err failed; /* while those are looked for who stood in the way */
        struct job *prev, *next;
};

/* rows: of claim_jobs. */
struct job *job_new(struct fleet *fleet, struct migrator *migrator, const struct pg_rows *rows, int row,
                    int64_t lease_until);
/* Starts to work. files: taken. Ends with fleet_job_ended. */
void job_start(struct job *job, struct registered *files);
/* Something that must not wait wants the tenant: ends as soon as that is possible without losing what was done. */
void job_give_way(struct job *job);
/* Drops it without a result, for whoever has it now. */
void job_free(struct job *job);
