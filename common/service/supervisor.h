/* Notifications to the supervisor (sd_notify): that the service has started, whether it is ready, that it is stopping,
 * that its loop is running. Without NOTIFY_SOCKET nothing is done. */
#pragma once

#include "common/service/service.h"

struct supervisor;

/* Reports that the service has started, and from then on whether it is ready. With WATCHDOG_USEC it sends three
 * keep-alives in that period, from the loop: if the loop hangs, none is sent, and the supervisor restarts the
 * process. */
struct supervisor *supervisor_new(struct service *service);
/* The service is stopping, and may take up to this long; NULL is fine, here and below. */
void supervisor_stopping(struct supervisor *supervisor, int64_t within_ms);
void supervisor_free(struct supervisor *supervisor);
