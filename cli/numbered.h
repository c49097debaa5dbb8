/* One thing done to each of some numbered things: dead letters, alerts. */
#pragma once

#include "cli/cli.h"

struct numbered_action {
        const char *command, *verb; /* "dlq", "replay" */
        const char *what;           /* "dead letter" */
        const char *path, *end;     /* the call: what stands before the number and behind it */
        const char *method;         /* POST or DELETE */
        const char *list, *flag;    /* in --json: {"replayed": [{"id": "7", "sent": true}]} */
        const char *done;           /* for people: "7 sent again" */
};

/* PATH/NUMBER/END; complains and returns NULL where number is none. The caller frees. */
char *numbered_path(const struct numbered_action *action, const char *number);
/* Does it to all that argv names from its third word on, also after one that failed; the first failure is the exit
 * code. */
int numbered_act(const struct numbered_action *action, int argc, char **argv);
