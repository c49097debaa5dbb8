/* A moment's wait of a saga that stays in hand: to put it down would begin its step anew. */
#pragma once

#include <stdint.h>

struct pause;
struct service;

/* Calls ended(context) once, after which the pause is gone, unless it is cancelled before. */
struct pause *pause_begin(struct service *service, int64_t ms, void (*ended)(void *context), void *context);
/* NULL: there is none. */
void pause_cancel(struct pause *pause);
