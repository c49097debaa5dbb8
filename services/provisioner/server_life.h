/* Tells the catalog which servers there are, and which timeline each of them is on: if one lost its last seconds (a
 * standby took over, a backup was restored), all its recently changed tenants are verified. */
#pragma once

#include "services/provisioner/provisioner.h"

struct server_life;

struct server_life *server_life_new(struct provisioner *provisioner);
/* Call before freeing the servers. NULL is fine. */
void server_life_free(struct server_life *life);
/* True once the catalog knows the servers. */
bool server_life_is_known(const struct server_life *life);
