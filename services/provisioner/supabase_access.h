/* Access to a project: the part of the supabase driver that acts inside an existing project. Each is the driver's step
 * of the same name; see driver.h. */
#pragma once

#include "common/durable/saga.h"

enum step_result supabase_prepare(struct saga *saga);
enum step_result supabase_create_admin(struct saga *saga);
enum step_result supabase_apply_access(struct saga *saga);
enum step_result supabase_set_next_login(struct saga *saga);
enum step_result supabase_end_old_login(struct saga *saga);
enum step_result supabase_make_link(struct saga *saga);
