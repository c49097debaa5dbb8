/* One action on each of several numbered objects: dead letters, alerts. */
#pragma once

#include "cli/cli.h"

struct numbered_action {
        const char *command, *verb; /* "dlq", "replay" */
        const char *what;           /* "dead letter" */
        const char *path, *end;     /* the path before and after the number */
        const char *method;         /* POST or DELETE */
        const char *list, *flag;    /* in --json: {"replayed": [{"id": "7", "sent": true}]} */
        const char *done;           /* for people: "7 sent again" */
};

/* PATH/NUMBER/END; complains and returns NULL if number is not a number. The caller frees. */
char *numbered_path(const struct numbered_action *action, const char *number);
/* Does it for all numbers in argv from the third word on, even after a failure; the first failure is the exit code. */
int numbered_act(const struct numbered_action *action, int argc, char **argv);
