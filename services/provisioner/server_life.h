/* The catalog is told which servers there are, and in which life each of them is: one that went on without its last
 * seconds (a standby took over, a backup was restored) has all verified that changed lately. */
#pragma once

#include "services/provisioner/provisioner.h"

struct server_life;

struct server_life *server_life_new(struct provisioner *provisioner);
/* Before the servers. NULL is fine. */
void server_life_free(struct server_life *life);
/* True once the catalog knows the servers. */
bool server_life_is_known(const struct server_life *life);
