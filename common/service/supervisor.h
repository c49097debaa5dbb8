/* What the supervisor is told (sd_notify): that the service has started, how it is, that it stops, that its loop turns.
 * Without NOTIFY_SOCKET nothing is done. */
#pragma once

#include "common/service/service.h"

struct supervisor;

/* Tells that the service has started, and goes on to tell how it is. With WATCHDOG_USEC it gives a sign of life three
 * times in that span, from the loop: one that hangs gives none, and the supervisor starts the process anew. */
struct supervisor *supervisor_new(struct service *service);
/* The service stops, and may take up to so long; NULL is fine, here and below. */
void supervisor_stopping(struct supervisor *supervisor, int64_t within_ms);
void supervisor_free(struct supervisor *supervisor);
