/* What follows from the data of a signup. */
#pragma once

#include "common/base/json.h"

/* Adds "slug": a DNS label made of the company's name, for a signup that asks for no subdomain. Lower-cases the mail
 * address, as the Auth servers of providers do. */
void signup_normalize(json_t *data);
