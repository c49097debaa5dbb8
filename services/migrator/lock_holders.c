/* Who stood in the way of a statement that waited for a lock in vain: see lock_holders.h. */
#include "services/migrator/lock_holders.h"

#include <stdio.h>
#include <string.h>

/* Everybody may see names of applications, relations and modes; not queries, nor since when. Not users: who reads
 * errors need not know how to connect. */
const char LOCK_HOLDERS[] =
        "select string_agg(format('%s: %s on %s', coalesce(nullif(left(application_name, 40), ''), 'a session without "
        "a name'), mode, left(relation::text, 60)), ', ') as holders from ("
        "select distinct on (l.pid) a.application_name, l.mode, l.relation::regclass as relation "
        "from pg_locks l join pg_stat_activity a using (pid) "
        "where l.granted and l.locktype = 'relation' and l.relation >= 16384 and l.pid <> pg_backend_pid() "
        "and l.database = (select oid from pg_database where datname = current_database()) "
        "order by l.pid, l.mode desc limit 3) h";

void lock_holders_add(struct err *err, const struct pg_rows *rows)
{
        const char *holders = rows ? pg_text(rows, 0, "holders") : NULL;
        size_t length = strlen(err->message);

        if (holders != NULL)
                snprintf(err->message + length, sizeof(err->message) - length, "; held by %s", holders);
}
