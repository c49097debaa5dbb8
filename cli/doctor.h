/* `tenantry doctor`: one line per check. */
#pragma once

#include "cli/cli.h"
#include "common/base/macros.h"

struct doctor {
        json_t *checks; /* what was found, for --json */
        int bad;
        int newest_server; /* major version of the newest tenant server seen; 0 = none */
};

void doctor_good(struct doctor *doctor, const char *name, const char *format, ...) PRINTF(3, 4);
/* advice says what to do. */
void doctor_bad(struct doctor *doctor, const char *name, const char *advice, const char *format, ...) PRINTF(4, 5);
/* A check that cannot be made from here. */
void doctor_skip(struct doctor *doctor, const char *name, const char *format, ...) PRINTF(3, 4);

/* The checks, by file. */
void doctor_check_catalog(struct doctor *doctor);
void doctor_check_provider(struct doctor *doctor);

/* The application name that servers see. */
#define DOCTOR_NAME "tenantry-doctor"
