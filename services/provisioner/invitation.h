/* The mail that brings a tenant's first administrator in. It carries our own signed link, never a secret of the
 * provider's; the link is good for 7 days or until the next invitation is sent. */
#pragma once

#include "common/durable/saga.h"

/* As a step: sends the invitation that is wanted, learns that it was sent. A mail that can never arrive is an alert and
 * no reason to stop a provisioning. */
enum step_result invitation_send(struct saga *saga);
