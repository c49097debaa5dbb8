/* What the provider and the archive directory have against what the catalog knows: orphans, ghosts, drift. Reports;
 * deletes only what is proved ours and in quarantine, or superseded (archive_files.h). */
#pragma once

#include "services/provisioner/provisioner.h"

struct janitor;

struct janitor *janitor_new(struct provisioner *provisioner);
void janitor_free(struct janitor *janitor);
