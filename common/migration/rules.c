/* What a migration must not contain: see migration_statement_wrong. */
#include "common/base/memory.h"
#include "common/migration/migration.h"
#include "common/migration/statement_kind.h"
#include "common/migration/token.h"

/* "from stdin" or "to stdout", one word after the other. */
static bool rule_copies_to_client(const char *at, const char *end)
{
        static const char *const ways[] = { "from", "to", NULL }, *const streams[] = { "stdin", "stdout", NULL };
        struct token token = { 0 };
        bool after_way = false;

        while ((token = token_next(&at, end)).kind != TOKEN_END) {
                if (after_way && token_is_one_of(&token, streams))
                        return true;
                after_way = token_is_one_of(&token, ways);
        }
        return false;
}

/* It is one transaction, and stays one. */
static const char *rule_ends_transaction(const struct token *first, const char *at, const char *end)
{
        static const char *const ends[] = { "begin", "start", "commit", "end", "abort", NULL };
        static const char *const whole[] = { "transaction", "work", NULL };
        struct token next = token_next(&at, end);

        if (token_is_one_of(first, ends) || (token_is(first, "prepare") && token_is_one_of(&next, whole)))
                return "a migration is one transaction: it cannot begin or end one itself (unless it says "
                       "transaction:false)";
        if (!token_is(first, "rollback"))
                return NULL;
        if (token_is_one_of(&next, whole))
                next = token_next(&at, end);
        return token_is(&next, "to") ? NULL /* a savepoint */
                                     : "a migration is one transaction: it cannot roll it back itself";
}

/* A temporary object, unless it is dropped with its transaction. */
static bool rule_makes_temporary(const struct token *first, const char *at, const char *end)
{
        static const char *const makers[] = { "create", "select", "with", NULL };
        static const char *const before[] = { "create", "into", "replace", "local", "global", NULL };
        static const char *const temporary[] = { "temp", "temporary", NULL };
        struct token last = *first, token = { 0 };
        bool found = false;

        if (!token_is_one_of(first, makers))
                return false;
        for (; (token = token_next(&at, end)).kind != TOKEN_END; last = token) {
                if (token_is_one_of(&last, before) && token_is_one_of(&token, temporary))
                        found = true;
                if (token_is(&last, "pg_temp") && token_is_mark(&token, '.'))
                        found = true;
                if (token_is(&last, "commit") && token_is(&token, "drop"))
                        return false;
        }
        return found;
}

static bool rule_has_one_of(const char *at, const char *end, const char *const *words)
{
        struct token token;

        while ((token = token_next(&at, end)).kind != TOKEN_END)
                if (token_is_one_of(&token, words))
                        return true;
        return false;
}

#define LOST "would be lost with the session of a worker that dies: "

/* If a worker dies within the file, another one continues in its own session. */
static const char *rule_needs_its_session(const struct token *first, const char *statement, const char *at,
                                          const char *end)
{
        static const char *const prepared[] = { "prepare", "listen", "load", NULL };
        static const char *const whole[] = { "transaction", NULL }, *const hold[] = { "hold", NULL };
        static const char *const settings[] = { "set_config", NULL }, *const who[] = { "authorization",
                                                                                       "session_authorization", NULL };
        static const char *const locks[] = { "pg_advisory_lock",       "pg_advisory_lock_shared",
                                             "pg_try_advisory_lock",   "pg_try_advisory_lock_shared",
                                             "pg_advisory_unlock_all", NULL };
        auto_free char *index = NULL, *table = NULL;

        statement_index(statement, (size_t)(end - statement), &index, &table);
        if (table != NULL && index == NULL)
                return "an index that is built concurrently needs a name: a half-built one could not be told from "
                       "others";
        if (rule_makes_temporary(first, at, end))
                return "a temporary object " LOST "use a file that runs in a transaction, or \"on commit drop\"";
        if (token_is_one_of(first, prepared) && !rule_has_one_of(at, end, whole))
                return "prepare, listen and load " LOST "use a file that runs in a transaction";
        if (token_is(first, "declare") && rule_has_one_of(at, end, hold))
                return "a cursor " LOST "use a file that runs in a transaction";
        if (token_is(first, "discard"))
                return "discard would remove what the migration itself keeps in the session: each file begins in a "
                       "clean one";
        if (token_is(first, "set") && rule_has_one_of(at, end, who))
                return "set session authorization would take the ledgers away: use set role";
        if (rule_has_one_of(at, end, locks))
                return "a session-level advisory lock " LOST "use a transaction-level one (pg_advisory_xact_lock)";
        if (rule_has_one_of(at, end, settings) && !statement_is_of_session(statement, (size_t)(end - statement)))
                return "set_config must be a separate statement, select set_config(...): it is run again after a crash";
        return NULL;
}

const char *migration_statement_wrong(const char *statement, size_t length, bool transaction)
{
        const char *at = statement, *end = statement + length;
        struct token first = token_next(&at, end);

        if (token_is(&first, "copy") && rule_copies_to_client(at, end))
                return "copy from stdin and copy to stdout cannot be used in a migration";
        return transaction ? rule_ends_transaction(&first, at, end)
                           : rule_needs_its_session(&first, statement, at, end);
}
