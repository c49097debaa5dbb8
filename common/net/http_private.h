/* What the files of the HTTP server share. For nobody else. */
#pragma once

#include "common/base/buf.h"
#include "common/net/http_server.h"

#include <microhttpd.h>

#define HTTP_SERVER_MAGIC  0x68747031
#define HTTP_REQUEST_MAGIC 0x68747271
#define HTTP_STREAM_LIMIT  (1024 * 1024)
#define HTTP_STREAM_LOW    (64 * 1024)

/* One TCP connection, watched for peers that send or read too slowly. */
struct http_connection {
        struct http_connection *prev, *next;
        int fd;
        int64_t since; /* waiting for (the rest of) a request since then */
        bool busy;     /* a request is being handled or streamed */
};

struct http_server {
        unsigned magic;
        struct MHD_Daemon *daemon;
        uv_loop_t *loop;
        uv_poll_t poll;
        uv_timer_t timer, sweep;
        uv_prepare_t prepare;
        uv_idle_t idle;
        int handles;
        unsigned rounds;
        bool run_wanted, listening, ending; /* ending: nothing new reaches a handler */
        const struct http_route *routes;
        struct http_limits limits;
        void *context;
        struct http_connection *connections;
        struct http_request *requests;
        size_t waiting;
};

struct http_request {
        unsigned magic;
        struct http_request *prev, *next;
        struct http_server *server;
        struct MHD_Connection *connection;
        struct http_connection *peer;
        const struct http_route *route;
        char *method, *path, *segment, address[64];
        struct buf body;
        unsigned refused; /* status to answer once the body has been read over, 0 = none */
        bool dispatched, suspended, answered, inside;
        int64_t answer_by;
        struct MHD_Response *response;
        unsigned status;
        struct buf headers; /* name, NUL, value, NUL, ... */
        void *kept;
        void (*release)(void *kept);
        struct http_stream *stream;
};

struct http_stream {
        struct http_request *request;
        struct buf pending;
        size_t sent;
        bool suspended, ending;
        void (*closed)(void *context);
        void (*drained)(void *context); /* NULL = nobody waits for room */
        void *context;
};

/* Hands response to the peer: at once inside the handler, else by waking the connection. */
void http_send(struct http_request *request, unsigned status, struct MHD_Response *response);
/* Lets libmicrohttpd work on the next turn of the loop. */
void http_run_soon(struct http_server *server);
/* The request is over: tells the stream's owner and frees. */
void http_stream_release(struct http_stream *stream);
