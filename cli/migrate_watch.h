/* Rollouts, watched. */
#pragma once

#include "common/base/json.h"

#include <stdint.h>

/* Follows the run until it has ended: on a terminal as a board with a bar for each wave, elsewhere one line for each
 * change. Returns EXIT_GOOD (completed), EXIT_FAILED (halted, rolled back, cancelled, or completed without some
 * tenants) or EXIT_TIMEOUT. */
int migrate_watch_run(const char *run_id, int64_t timeout_ms);
/* Prints a run for people: state, waves, failures by cause. Returns how many lines it took. */
int migrate_show_run(const json_t *run, int width);
