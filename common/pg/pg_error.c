/* Translates PostgreSQL's and libpq's errors into ours: the class decides what follows. */
#include "common/pg/pg_private.h"

#include <string.h>

static void pg_error_copy_message(char *out, size_t size, const char *message)
{
        size_t length;

        snprintf(out, size, "%s", message ? message : "no message");
        length = strlen(out);
        while (length > 0 && (out[length - 1] == '\n' || out[length - 1] == ' '))
                out[--length] = '\0';
        for (char *p = out; *p; p++)
                if (*p == '\n')
                        *p = ' ';
}

void pg_hide_names(char *message)
{
        static const char *const words[] = { "user \"", "role \"", "database \"", "host name \"", "host \"" };
        char *from, *to;

        while ((from = strstr(message, "connection to server ")) != NULL && (to = strstr(from, " failed: ")) != NULL)
                memmove(from, to + strlen(" failed: "), strlen(to + strlen(" failed: ")) + 1);
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                for (from = message;
                     (from = strstr(from, words[i])) != NULL && (to = strchr(from + strlen(words[i]), '"'));
                     from = to) {
                        from += strlen(words[i]);
                        memmove(from, to, strlen(to) + 1);
                        to = from;
                }
}

/* XX000 says nothing; these two are transient: somebody else committed a change to the same catalog row. */
static bool pg_error_is_concurrent_change(const char *text)
{
        return text != NULL &&
               (strcmp(text, "tuple concurrently updated") == 0 || strcmp(text, "tuple concurrently deleted") == 0);
}

static enum err_class pg_error_class_of_sqlstate(const char *state)
{
        static const struct {
                const char *prefix;
                enum err_class class;
        } classes[] = {
                { .prefix = "08", .class = ERR_BUSY },        { .prefix = "40", .class = ERR_BUSY },
                { .prefix = "53", .class = ERR_BUSY },        { .prefix = "55P03", .class = ERR_BUSY },
                { .prefix = "55006", .class = ERR_BUSY },     { .prefix = "57014", .class = ERR_BUSY },
                { .prefix = "57P", .class = ERR_BUSY },       { .prefix = "25006", .class = ERR_BUSY },
                { .prefix = "28", .class = ERR_AUTH },        { .prefix = "3D000", .class = ERR_GONE },
                { .prefix = "23505", .class = ERR_CONFLICT }, { .prefix = "42P04", .class = ERR_CONFLICT },
                { .prefix = "42710", .class = ERR_CONFLICT }, { .prefix = "TN409", .class = ERR_BUSY },
                { .prefix = "TN404", .class = ERR_GONE },     { .prefix = "TN400", .class = ERR_INPUT },
                { .prefix = "22", .class = ERR_INPUT },       { .prefix = "23", .class = ERR_INPUT },
                { .prefix = "42501", .class = ERR_AUTH },     { .prefix = "TN426", .class = ERR_OURS },
        };

        for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
                if (strncmp(state, classes[i].prefix, strlen(classes[i].prefix)) == 0)
                        return classes[i].class;
        return ERR_PERMANENT;
}

void pg_error_of_result(const struct pg_conn *conn, const PGresult *result, struct err *err)
{
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
        char message[320];

        if (state == NULL || PQstatus(conn->pq) == CONNECTION_BAD) {
                err_set(err, ERR_BUSY, "connection_lost", "the connection to PostgreSQL was lost%s%s",
                        state ? ": " : "", state ? state : "");
                return;
        }
        pg_error_copy_message(message, sizeof(message), text);
        err_set(err, pg_error_is_concurrent_change(text) ? ERR_BUSY : pg_error_class_of_sqlstate(state), state,
                "PostgreSQL: %s (SQLSTATE %s)", message, state);
}

bool pg_cannot_run(const struct err *err)
{
        return strncmp(err->code, "42", 2) == 0 || strncmp(err->code, "0A", 2) == 0 || strcmp(err->code, "3F000") == 0;
}

/* While connecting, libpq provides only a text, and no SQLSTATE. The text never contains credentials. */
void pg_error_of_connect(const struct pg_conn *conn, struct err *err)
{
        static const struct {
                const char *words, *code;
                enum err_class class;
        } refusals[] = {
                { "password authentication failed", "28P01", ERR_AUTH },
                { "no pg_hba.conf entry", "28000", ERR_AUTH },
                { "is not permitted to log in", "28000", ERR_AUTH },
                { "permission denied for database", "connect_failed", ERR_AUTH },
                { "too many connections", "53300", ERR_BUSY },
                /* Of the whole server, or its pooler; not of one database or role. */
                { "too many clients", "too_many_connections", ERR_BUSY },
                { "remaining connection slots", "too_many_connections", ERR_BUSY },
                { "no more connections allowed", "too_many_connections", ERR_BUSY },
                { "does not exist", "connect_failed", ERR_GONE },
                /* Dropping it was interrupted, and the rest can only be dropped too. */
                { "cannot connect to invalid database", "connect_failed", ERR_GONE },
        };
        const char *text = PQerrorMessage(conn->pq), *code = "connect_failed";
        char message[300];
        enum err_class class = ERR_BUSY;

        pg_error_copy_message(message, sizeof(message), text);
        pg_hide_names(message);
        for (size_t i = ARRAY_SIZE(refusals); i-- > 0;)
                if (strstr(text, refusals[i].words) != NULL)
                        code = refusals[i].code, class = refusals[i].class;
        err_set(err, class, code, "cannot connect to PostgreSQL: %s", message);
}
