/* Durable timers in business time. A service sets them in the catalog, in the transaction that changes its facts
 * (durable.set_timer(name, key, due_at), drop_timer), and is called back there when the instant has come, by its own
 * timer_due(name, key, due_at). That compares what is with what should be and wakes whoever has to do with it: a timer
 * may be early, late, or come for something that was settled long ago. */
#pragma once

#include "common/service/service.h"

struct timers;

/* fired(context) is called when some were due: facts may have changed. */
struct timers *timers_new(struct service *service, void (*fired)(void *context), void *context);
/* NULL is fine. */
void timers_free(struct timers *timers);
