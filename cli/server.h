/* A blocking connection to a PostgreSQL server, for the commands that go there themselves. */
#pragma once

#include <libpq-fe.h>

/* NULL and *ret_why (freed by the caller, no secret in it) where it cannot be. name: the application's, as the server
 * sees it. Ended with PQfinish. */
PGconn *server_connect(const char *url, const char *name, char **ret_why);
/* The first column of the first row, "" where there is none; the caller frees. NULL where the query fails: see
 * server_why. */
char *server_ask(PGconn *conn, const char *sql);
/* What the server said of the last failure, in one line; the caller frees. */
char *server_why(PGconn *conn);
