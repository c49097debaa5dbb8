/* Follows the gateway's event stream: reconnects automatically, with growing delays, until SIGINT or SIGTERM, or until
 * nobody reads standard output any more. */
#pragma once

#include "cli/cli.h"

struct stream_events {
        /* One event; data is borrowed. */
        void (*arrived)(void *context, const char *name, const json_t *data);
        /* Called at least every second, and after data has arrived: for drawing. */
        void (*turned)(void *context);
        /* The connection is lost (why) or restored (NULL). */
        void (*changed)(void *context, const char *why);
};

/* Returns EXIT_GOOD when interrupted; another exit code, after complaining, if the first connection fails or the
 * gateway refuses us. */
int stream_follow(const char *path, const struct stream_events *events, void *context);
