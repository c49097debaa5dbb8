/* Where a project is created: the region the tenant requested or the configured group, or the next region in the group
 * if one is full or a project got stuck. */
#pragma once

#include "services/provisioner/driver.h"

/* region_selection of a create request; the caller owns it. */
json_t *supabase_region_wish(struct saga *saga);
/* Whether a project of the tenant never came up in its region. */
bool supabase_got_stuck(const struct activity *activity);
/* Chooses another region and stores it in the saga's data; then the step begins again. leave: the current one is
 * full. */
enum step_result supabase_list_regions(struct saga *saga);
enum step_result supabase_leave_region(struct saga *saga);
