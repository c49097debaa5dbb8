/* Key rotation: what an older key has sealed is sealed anew with the primary one, a few at a time. */
#pragma once

#include "services/provisioner/provisioner.h"

struct rewrap;

struct rewrap *rewrap_new(struct provisioner *provisioner);
void rewrap_free(struct rewrap *rewrap);
/* NULL, or the id of a key that sealed something and that we do not have: then we are not ready. */
const char *rewrap_unknown_key(const struct rewrap *rewrap);
