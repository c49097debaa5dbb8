/* The safety net and the clock: every few seconds, whatever should be done and is not being done is started. */
#pragma once

#include "services/provisioner/provisioner.h"

struct waker;

struct waker *waker_new(struct provisioner *provisioner);
void waker_free(struct waker *waker);
