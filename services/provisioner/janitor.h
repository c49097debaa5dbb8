/* Compares what the provider and the archive directory have with what the catalog knows: orphans, ghosts, drift.
 * Reports differences; deletes only what is proved to be ours and quarantined, or superseded (archive_files.h). */
#pragma once

#include "services/provisioner/provisioner.h"

struct janitor;

struct janitor *janitor_new(struct provisioner *provisioner);
void janitor_free(struct janitor *janitor);
