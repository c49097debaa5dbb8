/* Shared by pg.c (the life of a connection), pg_resolve.c (its hosts), pg_statement.c (statements on it) and pg_error.c
 * (what went wrong). */
#pragma once

#include "common/pg/pg.h"

#include <libpq-fe.h>

#define PG_MAGIC         0x70677631
#define PG_OPTIONS_LIMIT 24

enum pg_state {
        PG_RESOLVING,  /* resolving the host name */
        PG_CONNECTING, /* libpq is connecting */
        PG_IDLE,
        PG_BUSY,   /* a statement is under way, or its failure not reported yet */
        PG_BROKEN, /* unusable: statements fail, and all that remains is pg_close */
};

/* uv handles outlive us by one loop iteration, so each is a separate allocation that points back while we live. */
struct pg_watch {
        uv_poll_t poll;
        struct pg_conn *conn;
};

struct pg_timer {
        uv_timer_t timer;
        struct pg_conn *conn;
};

struct pg_resolve; /* resolving the hosts, while it is under way */

struct pg_conn {
        unsigned magic;
        uv_loop_t *loop;
        enum pg_state state; /* changed only by pg_enter */
        PGconn *pq;
        struct pg_watch *watch;
        int watched_fd, watched_events;
        struct pg_timer *timer;
        struct pg_resolve *resolve;
        char *keywords[PG_OPTIONS_LIMIT], *values[PG_OPTIONS_LIMIT];
        int options;
        pg_opened_fn opened, lost;
        void *opened_context, *lost_context;
        pg_done_fn done;
        void *done_context;
        pg_more_time_fn more_time;
        PGresult *last;
        const PGresult *failed; /* during the callback that reports it */
        int results;            /* of the statements under way, how many have succeeded */
        int64_t open_until;     /* on the loop's clock: the deadline for all hosts together */
        bool in_callback, closed;
};

/* Enters the next state; only the transitions in pg.c's table are allowed. */
void pg_enter(struct pg_conn *conn, enum pg_state next);
/* Watches the socket, whichever it is by now, for these events. */
void pg_watch_socket(struct pg_conn *conn, int events);
void pg_stop_timer(struct pg_conn *conn);
/* The statement or the connection attempt took too long. */
void pg_on_timeout(uv_timer_t *timer);
/* Marks it unusable: all that remains is pg_close. */
void pg_break_off(struct pg_conn *conn);
/* Call after a callback, which may have called pg_close. */
bool pg_still_there(struct pg_conn *conn);
/* The connection is gone: notifies the waiting caller. */
void pg_lose(struct pg_conn *conn);

/* Sets a connection parameter, replacing the one it has; "" = libpq's default. */
void pg_replace_option(struct pg_conn *conn, const char *keyword, const char *value);
const char *pg_option(const struct pg_conn *conn, const char *keyword);
/* Starts libpq, once all addresses are known. */
void pg_start_connect(struct pg_conn *conn);
/* Reports to the opener that the connection failed. */
void pg_fail_to_open(struct pg_conn *conn, const struct err *err);

/* pg_resolve.c: resolves the hosts, then calls pg_start_connect or pg_fail_to_open; neither, if the connection is
 * closed first. */
void pg_resolve(struct pg_conn *conn);
void pg_forget_resolve(struct pg_conn *conn);
/* How many hosts are left to try, at least 1. */
int pg_hosts(const struct pg_conn *conn);
/* Removes the host that libpq is currently trying from the list; false if it is the only one. */
bool pg_leave_host(struct pg_conn *conn);

/* pg_statement.c: reads what the server sent; reports the outcome of the statement (result borrowed). */
void pg_drive_statement(struct pg_conn *conn);
bool pg_report_done(struct pg_conn *conn, const PGresult *result, const struct err *err);

void pg_error_of_result(const struct pg_conn *conn, const PGresult *result, struct err *err);
void pg_error_of_connect(const struct pg_conn *conn, struct err *err);
