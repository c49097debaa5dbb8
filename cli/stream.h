/* Following the gateway's event stream: connects again by itself, with growing pauses, until SIGINT or SIGTERM, or
 * until nobody reads standard output any more. */
#pragma once

#include "cli/cli.h"

struct stream_events {
        /* One event; data is borrowed. */
        void (*arrived)(void *context, const char *name, const json_t *data);
        /* At least each second, and after what arrived: for drawing. */
        void (*turned)(void *context);
        /* The connection is lost (why) or there again (NULL). */
        void (*changed)(void *context, const char *why);
};

/* Returns EXIT_GOOD when interrupted; another exit code, after complaining, when the first connection cannot be made or
 * the gateway refuses us. */
int stream_follow(const char *path, const struct stream_events *events, void *context);
