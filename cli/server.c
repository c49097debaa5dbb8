/* A blocking connection to a PostgreSQL server: see server.h. */
#include "cli/server.h"

#include "common/base/memory.h"

#include <string.h>

#define CONNECT_SECONDS "5"

char *server_why(PGconn *conn)
{
        char *copy = mem_copy_text(PQerrorMessage(conn));

        for (char *p = copy; *p; p++)
                if (*p == '\n' || *p == '\t')
                        *p = p[1] ? ' ' : '\0';
        return copy;
}

PGconn *server_connect(const char *url, const char *name, char **ret_why)
{
        const char *const names[] = { "dbname", "connect_timeout", "application_name", NULL };
        const char *const values[] = { url, CONNECT_SECONDS, name, NULL };
        PQconninfoOption *parsed = PQconninfoParse(url, NULL);
        PGconn *conn;

        *ret_why = NULL;
        if (parsed == NULL) { /* libpq's own message would repeat the URL, including the password */
                *ret_why = mem_copy_text("that is not a connection URL");
                return NULL;
        }
        PQconninfoFree(parsed);
        conn = PQconnectdbParams(names, values, 1);
        if (PQstatus(conn) == CONNECTION_OK)
                return conn;
        *ret_why = server_why(conn);
        PQfinish(conn);
        return NULL;
}

char *server_ask(PGconn *conn, const char *sql)
{
        PGresult *result = PQexec(conn, sql);
        char *answer = NULL;

        if (PQresultStatus(result) == PGRES_TUPLES_OK)
                answer = mem_copy_text(PQntuples(result) > 0 && !PQgetisnull(result, 0, 0) ? PQgetvalue(result, 0, 0)
                                                                                           : "");
        PQclear(result);
        return answer;
}
