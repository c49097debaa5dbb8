/* Named places between any two effects where a test can make the process die, fail or hang. Armed by the environment,
 * only with SANDBOX=1:  FAILPOINTS="saga_before_step=crash;publisher_before_produce=sleep:2000@3"
 * Actions: crash (SIGKILL to ourselves), error, sleep:MS (the whole process), stop (SIGSTOP to ourselves, until
 * somebody sends SIGCONT); @N: from the N-th pass on, once. */
#pragma once

#include "common/base/err.h"

/* The list of all names; using an unlisted one does not compile. */
#define FAILPOINTS(POINT)                                                                                              \
        POINT(gateway_before_produce)                                                                                  \
        POINT(gateway_after_ack)                                                                                       \
        POINT(kafka_before_client)                                                                                     \
        POINT(kafka_before_produce)                                                                                    \
        POINT(consumer_after_assign)                                                                                   \
        POINT(intake_before_commit)                                                                                    \
        POINT(intake_after_commit)                                                                                     \
        POINT(saga_after_claim)                                                                                        \
        POINT(saga_before_step)                                                                                        \
        POINT(saga_before_advance)                                                                                     \
        POINT(saga_after_advance)                                                                                      \
        POINT(publisher_before_produce)                                                                                \
        POINT(publisher_after_produce)                                                                                 \
        POINT(publisher_after_mark)                                                                                    \
        POINT(driver_before_create)                                                                                    \
        POINT(driver_after_create)                                                                                     \
        POINT(driver_before_grant)                                                                                     \
        POINT(driver_after_grant)                                                                                      \
        POINT(driver_before_delete)                                                                                    \
        POINT(driver_after_delete)                                                                                     \
        POINT(driver_before_access)                                                                                    \
        POINT(driver_after_access)                                                                                     \
        POINT(driver_before_rotate)                                                                                    \
        POINT(driver_after_rotate)                                                                                     \
        POINT(driver_before_renew)                                                                                     \
        POINT(driver_after_renew)                                                                                      \
        POINT(driver_before_admin)                                                                                     \
        POINT(driver_after_admin)                                                                                      \
        POINT(identity_after_plant)                                                                                    \
        POINT(migration_before_apply)                                                                                  \
        POINT(migration_after_statement)                                                                               \
        POINT(migration_after_apply)                                                                                   \
        POINT(job_after_claim)                                                                                         \
        POINT(job_before_connect)                                                                                      \
        POINT(job_before_result)                                                                                       \
        POINT(job_after_result)                                                                                        \
        POINT(inspection_after_claim)                                                                                  \
        POINT(inspection_before_result)                                                                                \
        POINT(run_before_advance)                                                                                      \
        POINT(run_after_advance)                                                                                       \
        POINT(billing_after_freeze)                                                                                    \
        POINT(billing_before_call)                                                                                     \
        POINT(billing_after_call)                                                                                      \
        POINT(billing_after_keep)                                                                                      \
        POINT(billing_before_fetched)                                                                                  \
        POINT(billing_after_payment)                                                                                   \
        POINT(backup_before_dump)                                                                                      \
        POINT(backup_after_dump)                                                                                       \
        POINT(backup_after_list)                                                                                       \
        POINT(restore_before_load)                                                                                     \
        POINT(restore_after_load)                                                                                      \
        POINT(restore_before_swap)                                                                                     \
        POINT(restore_after_swap)                                                                                      \
        POINT(restore_after_drop)                                                                                      \
        POINT(mail_before_send)                                                                                        \
        POINT(mail_after_send)                                                                                         \
        POINT(setup_after_create)                                                                                      \
        POINT(setup_after_secret)

enum failpoint {
#define FAILPOINT_ENUM(name) FAILPOINT_##name,
        FAILPOINTS(FAILPOINT_ENUM)
#undef FAILPOINT_ENUM
                FAILPOINT_COUNT
};

/* Arms the failpoints in spec (NULL = none). Returns 0 or -ERR_INPUT naming the bad entry. */
int failpoint_arm(const char *spec, struct err *err);
const char *failpoint_name(enum failpoint point);
/* Returns 0, or fills *err (ERR_BUSY) and returns -ERR_BUSY if the point is armed with error. */
int failpoint_pass(enum failpoint point, struct err *err);

#define FAILPOINT(name, err) failpoint_pass(FAILPOINT_##name, (err))
