/* The safety net and the clock: every few seconds, starts whatever should be done but is not being done. */
#pragma once

#include "services/provisioner/provisioner.h"

struct waker;

struct waker *waker_new(struct provisioner *provisioner);
void waker_free(struct waker *waker);
