/* Mail addresses as people write them, converted to what every mail server and provider accepts: an international
 * domain (ada@bücher.example) becomes its ASCII form (ada@xn--bcher-kva.example, IDNA 2008). */
#pragma once

#include "common/base/err.h"

#define MAIL_ADDRESS_LIMIT 254

/* One plain address: no comments, quotes, routes or display name. field: for the error. Returns 0 and *ret, which the
 * caller frees, in lower case; or -ERR_INPUT. */
int mail_address_read(const char *field, const char *text, char **ret, struct err *err);
