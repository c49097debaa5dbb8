/* Server-sent events of snapshots: the current state from the catalog, then every change from Kafka. One for each
 * snapshot topic that people may watch. */
#pragma once

#include "services/gateway/gateway.h"

struct streams;

struct stream_source {
        const char *topic;
        const char *event;     /* the name of its events */
        enum scope scope;      /* as of its route: a stream ends when its token no longer has it */
        const char *parameter; /* query parameter for the one key, a UUID, to be watched */
        /* The current states as rows of (key, snapshot) ordered by key: after key $2 unless that is null, only key $1
         * unless that is null, at most $3 rows. */
        const char *sql;
        char *(*gone)(const char *key); /* what watchers get for a tombstone; the caller frees */
};

extern const struct stream_source STREAM_OF_TENANTS, STREAM_OF_RUNS;

/* source is borrowed for the life of the process. NULL and err on failure. */
struct streams *streams_new(struct gateway *gateway, const struct stream_source *source, struct err *err);
/* NULL is fine. */
void streams_free(struct streams *streams);
/* Ends the streams whose tokens may not open them any more. */
void streams_end_refused(struct streams *streams);
/* Answers the request with a stream that stays open, or with an error. */
void streams_open(struct streams *streams, struct http_request *request);
