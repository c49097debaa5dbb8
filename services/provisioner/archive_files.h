/* Compares the files in ARCHIVE_DIRECTORY with the backups and archives known to the catalog: orphaned and missing ones
 * are reported, and files that a later attempt of the same saga superseded are removed once they are a day old. */
#pragma once

#include "services/provisioner/provisioner.h"

struct archive_files;

struct archive_files *archive_files_new(struct provisioner *provisioner);
/* Scans all of it, a batch of tenants at a time, off the loop; does nothing while the previous scan is running. */
void archive_files_look(struct archive_files *files);
/* NULL is fine. */
void archive_files_free(struct archive_files *files);
