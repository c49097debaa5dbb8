/* The floor of a rollout: to each database named on standard input one connection, one query that does nothing, and the
 * end. Password and server come from PGPASSWORD, PGHOST and the like.
 *
 *   connect PROCESSES
 *
 * Each process takes every PROCESSES-th database, one after the other. Prints how many they were. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DATABASES 100000
#define NAME      64 /* NAMEDATALEN */

static char databases[DATABASES][NAME];

static int read_databases(void)
{
        int count = 0;

        while (count < DATABASES && fgets(databases[count], NAME, stdin) != NULL) {
                databases[count][strcspn(databases[count], "\n")] = '\0';
                count++;
        }
        return count;
}

static int visit(const char *database)
{
        const char *const keywords[] = { "dbname", NULL }, *const values[] = { database, NULL };
        PGconn *conn = PQconnectdbParams(keywords, values, 0);
        PGresult *result = PQexec(conn, "select 1");
        int rc = PQresultStatus(result) == PGRES_TUPLES_OK ? 0 : 1;

        if (rc != 0)
                fprintf(stderr, "connect: %s: %s", database, PQerrorMessage(conn));
        PQclear(result);
        PQfinish(conn);
        return rc;
}

static int visit_every(int count, int first, int step)
{
        for (int i = first; i < count; i += step)
                if (visit(databases[i]) != 0)
                        return 1;
        return 0;
}

int main(int argc, char **argv)
{
        int processes = argc == 2 ? atoi(argv[1]) : 0, count = read_databases(), failed = 0, status;

        if (processes < 1) {
                fputs("usage: connect PROCESSES < databases\n", stderr);
                return 2;
        }
        for (int i = 0; i < processes; i++)
                if (fork() == 0)
                        _exit(visit_every(count, i, processes));
        while (wait(&status) > 0)
                failed |= status;
        printf("%d\n", count);
        return failed != 0;
}
