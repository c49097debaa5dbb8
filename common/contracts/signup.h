/* What follows from the data of a signup. */
#pragma once

#include "common/base/json.h"

/* Adds "slug": a DNS label derived from the company's name, for a signup without a subdomain. Lower-cases the mail
 * address, as the providers' Auth servers do. Returns 0. */
int signup_normalize(json_t *data, struct err *err);
