/* Keeps rollouts going: whichever process holds the lease asks the catalog, again and again, what is to be done with
 * the run at work (the catalog's advance(), a pure function of its jobs and the time). */
#pragma once

#include "services/migrator/migrator.h"

struct coordinator;

struct coordinator *coordinator_new(struct migrator *migrator);
/* NULL is fine. */
void coordinator_free(struct coordinator *coordinator);
/* Something has ended or begun: look soon. */
void coordinator_wake(struct coordinator *coordinator);
/* Lets another process go on at once. */
void coordinator_stop(struct coordinator *coordinator);
bool coordinator_is_idle(const struct coordinator *coordinator);
