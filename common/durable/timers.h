/* Durable timers in business time. A service sets them in the catalog, in the transaction that changes its facts
 * (durable.set_timer(name, key, due_at), drop_timer); when one is due, its own function timer_due(name, key, due_at) is
 * called there. That compares the actual state with the desired one and wakes whatever depends on it: a timer may be
 * early, late, or concern something that was settled long ago. */
#pragma once

#include "common/service/service.h"

struct timers;

/* fired(context) is called when any were due: facts may have changed. */
struct timers *timers_new(struct service *service, void (*fired)(void *context), void *context);
/* NULL is fine. */
void timers_free(struct timers *timers);
