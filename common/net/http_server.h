/* An HTTP/1.1 server inside the loop (libmicrohttpd): routes, limits, answers given at once or later, event streams. */
#pragma once

#include "common/base/json.h"
#include "common/net/proxies.h"

#include <uv.h>

struct http_server;
struct http_request;
struct http_stream;

/* What a query may contain. */
struct http_parameter {
        const char *name;
        const char *choices; /* "a|b|c", or NULL: any text */
};

struct http_route {
        const char *method; /* "GET"; HEAD is answered like GET without its body */
        const char *path;   /* "/api/tenants/{id}/suspend": {id} matches one segment */
        void (*handle)(struct http_request *request, void *context);
        const void *extra;                  /* for the handler, by http_route_extra */
        const struct http_parameter *query; /* for http_query_holds; ends with a NULL name, NULL = takes none */
        size_t body_bytes;                  /* a larger body is answered with 413; 0 = the limit in http_limits */
        const char *cache;                  /* Cache-Control of its answers below 300, and of 304; NULL = "no-store" */
        bool any_query;                     /* parameters not in that table are ignored */
        bool any_body;                      /* the body may have any type; otherwise only JSON is accepted (415) */
};

struct http_limits {
        size_t body_bytes;             /* a larger body is answered with 413, unless the route says otherwise */
        size_t large_bytes;            /* of all bodies together, what is beyond body_bytes of each: more gets 503 */
        unsigned connections;          /* in all */
        unsigned per_address;          /* from one address (IPv6: one /64); a proxy's own do not count */
        int64_t read_ms;               /* a connection that has not sent a complete request by then is closed */
        int64_t answer_ms;             /* a request without an answer by then gets 503 */
        const struct proxies *proxies; /* proxies trusted to name the caller's address; borrowed, NULL = none */
};

/* routes end with a NULL method and are borrowed. Returns 0 and *ret, -ERR_INPUT (no such address, no right to
 * the port), or -ERR_BUSY (the port is taken). address: "0.0.0.0". */
int http_server_new(uv_loop_t *loop, const char *address, int port, const struct http_route *routes,
                    const struct http_limits *limits, void *context, struct http_server **ret, struct err *err);
/* Keeps serving, but closes each connection after its answer, so that callers look for another server. */
void http_server_drain(struct http_server *server);
/* Accepts no new connections and no new requests (503, close); running requests continue. */
void http_server_stop_listening(struct http_server *server);
/* The number of unanswered requests, not counting streams. */
size_t http_server_waiting(const struct http_server *server);
/* Ends everything, including streams. */
void http_server_free(struct http_server *server);

/* All borrowed from the request, which lives until it is answered. */
const char *http_segment(const struct http_request *request);                  /* what {id} matched, or NULL */
const char *http_query(const struct http_request *request, const char *name);  /* NULL where missing */
const char *http_header(const struct http_request *request, const char *name); /* NULL where missing */
const char *http_body(const struct http_request *request, size_t *ret_length); /* NUL-terminated */
const char *http_address(const struct http_request *request); /* the caller's address as text, as far as it is known */
const char *http_site(const struct http_request *request);    /* the same for limits: for IPv6 the /64 */
const void *http_route_extra(const struct http_request *request);
/* Checks the query against the route's table. False: a parameter is unknown, given twice or not one of its choices; the
 * request has then been answered with 400, naming it. */
bool http_query_holds(struct http_request *request);
/* Where a handler keeps its state; release frees it when the request ends, however it ends. */
void http_keep(struct http_request *request, void *state, void (*release)(void *state));

/* True once it is answered (the server answers by itself if ours is late); only release is still to come. */
bool http_is_answered(const struct http_request *request);

/* Adds a header to the coming answer. Both are copied. */
void http_answer_header(struct http_request *request, const char *name, const char *value);
/* The answer: exactly one of these per request, inside the handler or later. The request is not to be used after it. */
void http_answer(struct http_request *request, unsigned status, const char *content_type, const char *body,
                 size_t length);
void http_answer_json(struct http_request *request, unsigned status, json_t *body); /* takes body */
/* RFC 9457. field and detail may be NULL. */
void http_answer_problem_more(struct http_request *request, unsigned status, const char *code, const char *field,
                              const char *detail, json_t *more); /* more members; taken, may be NULL */
void http_answer_problem(struct http_request *request, unsigned status, const char *code, const char *field,
                         const char *detail);
/* The problem document for err, with Retry-After if waiting helps. */
void http_answer_error(struct http_request *request, const struct err *err);

/* Starts a text/event-stream; closed is called when the peer has gone or the server ends (then the stream is gone too).
 */
struct http_stream *http_answer_stream(struct http_request *request, void (*closed)(void *context), void *context);
/* Copies the text. Returns false if the peer is so slow that more than a megabyte would wait (then end the stream), or
 * if it was ended. */
bool http_stream_write(struct http_stream *stream, const char *text, size_t length);
/* How many more bytes may be queued for the peer. */
size_t http_stream_room(const struct http_stream *stream);
/* drained is called once, now or later, when little is queued for the peer: for callers that have much to write. It
 * gets the stream's context, and is no longer called once closed was. */
void http_stream_when_drained(struct http_stream *stream, void (*drained)(void *context));
/* Ends the stream; closed is still called, later. */
void http_stream_end(struct http_stream *stream);
