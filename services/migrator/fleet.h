/* The jobs this process has in hand: claimed in batches, their leases renewed, their results recorded in batches. */
#pragma once

#include "services/migrator/migrator.h"

struct fleet;
struct job;

struct fleet *fleet_new(struct migrator *migrator);
/* NULL is fine. */
void fleet_free(struct fleet *fleet);
/* There may be jobs. */
void fleet_wake(struct fleet *fleet);
/* Claims no more; those in hand go on for as long as the process lives, and are claimed by others afterwards. */
void fleet_stop(struct fleet *fleet);
bool fleet_is_idle(const struct fleet *fleet);

/* A job has ended, with its result for the catalog's end_jobs (taken). The job is gone. */
void fleet_job_ended(struct fleet *fleet, struct job *job, json_t *result);
