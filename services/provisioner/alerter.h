/* Alerts on their way to people: by webhook and by mail, one process at a time, until each was delivered once. */
#pragma once

#include "services/provisioner/provisioner.h"

struct alerter;

struct alerter *alerter_new(struct provisioner *provisioner);
void alerter_free(struct alerter *alerter);
