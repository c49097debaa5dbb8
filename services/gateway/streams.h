/* Server-sent events of snapshots: the state as it is now from the catalog, then every change as Kafka brings it. One
 * for each topic of snapshots that people may watch. */
#pragma once

#include "services/gateway/gateway.h"

struct streams;

struct stream_source {
        const char *topic;
        const char *event;     /* what its events are called */
        const char *parameter; /* of the request: the one key, a UUID, that is to be watched */
        /* The present states as rows of (key, snapshot) in the order of keys, behind key $2 unless that is null, only
         * that of key $1 unless that is null, $3 at most. */
        const char *sql;
        char *(*gone)(const char *key); /* what watchers are told for a tombstone; the caller frees */
};

extern const struct stream_source STREAM_OF_TENANTS;

/* source is borrowed for the life of the process. NULL and err where there can be none. */
struct streams *streams_new(struct gateway *gateway, const struct stream_source *source, struct err *err);
/* NULL is fine. */
void streams_free(struct streams *streams);
/* Answers the request with a stream that stays open, or says why not. */
void streams_open(struct streams *streams, struct http_request *request);
