/* The supabase driver's part that finds out how to connect to a project's database: see driver.h for what each does. */
#pragma once

#include "services/provisioner/driver.h"

enum step_result supabase_read_connection(struct saga *saga);
enum step_result supabase_recover_login(struct saga *saga);
enum step_result supabase_find_again(struct saga *saga);
/* Reads the service key again and replaces the stored one; then calls supabase_key_renewed. */
enum step_result supabase_renew_key(struct saga *saga);
