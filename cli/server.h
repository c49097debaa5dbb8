/* A blocking connection to a PostgreSQL server, for commands that access it directly. */
#pragma once

#include <libpq-fe.h>

/* On failure NULL and *ret_why (freed by the caller, contains no secret). name: the application name that the server
 * sees. Closed with PQfinish. */
PGconn *server_connect(const char *url, const char *name, char **ret_why);
/* The first column of the first row, "" if there is none; the caller frees. NULL if the query fails: see server_why. */
char *server_ask(PGconn *conn, const char *sql);
/* The server's message for the last failure, on one line; the caller frees. */
char *server_why(PGconn *conn);
