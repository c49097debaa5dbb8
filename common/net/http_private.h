/* Shared by the files of the HTTP server, and by nobody else. */
#pragma once

#include "common/base/buf.h"
#include "common/net/http_server.h"

#include <microhttpd.h>
#include <uthash.h>

#define HTTP_SERVER_MAGIC  0x68747031
#define HTTP_REQUEST_MAGIC 0x68747271
#define HTTP_STREAM_LIMIT  (1024 * 1024)
#define HTTP_STREAM_LOW    (64 * 1024)

/* A connection from a trusted proxy, until it has said whether it speaks for somebody else. */
struct http_guest {
        struct http_guest *prev, *next;
        struct http_server *server;
        struct address address;
        uv_poll_t poll;
        int fd;
        int looked_at; /* bytes seen last time */
        int64_t since;
};

/* The number of connections from one address. */
struct http_source {
        struct address address;
        unsigned count;
        UT_hash_handle hh;
};

/* One TCP connection, watched for peers that send or read too slowly. */
struct http_connection {
        struct http_connection *prev, *next;
        int fd;
        struct address address; /* of the peer, or of the client a proxy speaks for in the PROXY protocol */
        int64_t since;          /* since when it has been waiting for (the rest of) a request */
        bool busy;              /* a request is being handled or streamed */
};

struct http_server {
        unsigned magic;
        struct MHD_Daemon *daemon;
        uv_loop_t *loop;
        int listener;
        uv_poll_t accept, poll;
        uv_timer_t timer, sweep;
        uv_prepare_t prepare;
        uv_idle_t idle;
        int handles;
        unsigned rounds;
        bool run_wanted, listening, full, draining, ending; /* ending: nothing new reaches a handler */
        const struct http_route *routes;
        struct http_limits limits;
        void *context;
        struct http_connection *connections;
        struct http_guest *guests;
        struct http_source *sources;
        unsigned connection_count; /* with guests */
        struct http_request *requests;
        size_t waiting;
        size_t large_bytes; /* held now, as in http_limits */
};

struct http_request {
        unsigned magic;
        struct http_request *prev, *next;
        struct http_server *server;
        struct MHD_Connection *connection;
        struct http_connection *peer;
        const struct http_route *route;
        char *method, *path, *segment, address[ADDRESS_TEXT], site[ADDRESS_TEXT];
        struct buf body;
        unsigned refused; /* status to answer once the body has been skipped, 0 = none */
        bool dispatched, suspended, answered, inside, crowded_out;
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

/* Sets the request's route and segment, or 404 or 405 as the answer. */
void http_find_route(struct http_request *request);
/* Checks the header of a request: an error in it becomes the status to answer. */
void http_refuse(struct http_request *request);
void http_answer_refused(struct http_request *request);
size_t http_body_limit(const struct http_request *request);
/* Fills the caller's address and site. */
void http_find_caller(struct http_request *request);
/* Opens the socket for address and port. Returns it; -ERR_INPUT if that can never work, or -ERR_BUSY. */
int http_listen(const char *address, int port, struct err *err);
/* Accepts connections from the server's listener, within its limits; http_stop_accepting closes it. */
void http_start_accepting(struct http_server *server);
void http_stop_accepting(struct http_server *server);
/* Called by libmicrohttpd's connections. */
void http_connection_began(struct http_server *server, struct http_connection *peer);
void http_connection_ended(struct http_server *server, struct http_connection *peer);
/* One of the server's handles is closed; the last one frees the server. */
void http_handle_closed(struct http_server *server);
/* Closes guests that keep us waiting, and checks whether there is room again. */
void http_sweep_guests(struct http_server *server, int64_t now);
/* Sends response to the peer: at once inside the handler, otherwise by waking the connection. */
void http_send(struct http_request *request, unsigned status, struct MHD_Response *response);
/* Lets libmicrohttpd work on the next turn of the loop. */
void http_run_soon(struct http_server *server);
/* The request is over: notifies the stream's owner and frees it. */
void http_stream_release(struct http_stream *stream);
