/* The files of ARCHIVE_DIRECTORY against what the catalog knows of backups and archives: orphans and missing ones are
 * reported, and what a later attempt of the same saga superseded is removed when it is a day old. */
#pragma once

#include "services/provisioner/provisioner.h"

struct archive_files;

struct archive_files *archive_files_new(struct provisioner *provisioner);
/* Looks through all of it, a batch of tenants at a time, beside the loop; does nothing while the last look goes on. */
void archive_files_look(struct archive_files *files);
/* NULL is fine. */
void archive_files_free(struct archive_files *files);
