/* Where a project is made: the region the tenant asked for or the configured group, or the next one of the group where
 * a region is full or a project got stuck. */
#pragma once

#include "services/provisioner/driver.h"

/* region_selection of a create request; the caller takes it. */
json_t *supabase_region_wish(struct saga *saga);
/* Whether a project of the tenant never came up where it was made. */
bool supabase_got_stuck(const struct activity *activity);
/* Chooses another region and stores it in the saga's data; then the step begins again. leave: the present one is full.
 */
enum step_result supabase_list_regions(struct saga *saga);
enum step_result supabase_leave_region(struct saga *saga);
