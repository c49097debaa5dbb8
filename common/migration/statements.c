/* Splits SQL into statements, and finds positions in it: see migration.h. */
#include "common/migration/migration.h"

#include "common/migration/token.h"

#include <string.h>

/* How deep in a SQL-standard function body, whose statements end with semicolons of their own. */
static int statement_atomic_depth(const struct token *token, int depth, bool after_begin)
{
        if (after_begin && token_is(token, "atomic"))
                return depth + 1;
        if (depth > 0 && token_is(token, "case"))
                return depth + 1;
        if (depth > 0 && token_is(token, "end"))
                return depth - 1;
        return depth;
}

size_t migration_next_statement(const char *sql)
{
        const char *p = sql;
        int depth = 0, parentheses = 0;
        bool after_begin = false;

        for (struct token token = token_next(&p, NULL); token.kind != TOKEN_END; token = token_next(&p, NULL)) {
                if (token_is_mark(&token, ';') && depth == 0 && parentheses == 0)
                        break;
                depth = statement_atomic_depth(&token, depth, after_begin);
                after_begin = token_is(&token, "begin");
                if (token_is_mark(&token, '('))
                        parentheses++;
                else if (token_is_mark(&token, ')') && parentheses > 0)
                        parentheses--;
        }
        return (size_t)(p - sql);
}

size_t migration_statement_start(const char *statement, size_t length)
{
        const char *p = statement, *end = statement + length;
        struct token first = token_next(&p, end);

        return first.kind == TOKEN_END || token_is_mark(&first, ';') ? length : (size_t)(first.at - statement);
}

size_t migration_verify_length(const char *verify)
{
        size_t found = 0, length;

        for (const char *at = verify; (length = migration_next_statement(at)) > 0; at += length) {
                if (migration_statement_start(at, length) == length)
                        continue;
                if (found > 0)
                        return 0;
                found = (size_t)(at - verify) + length - (at[length - 1] == ';');
        }
        return found;
}

/* PostgreSQL and editors count characters; all bytes of a character but the first begin with the bits 10. */
static bool statement_character_begins(char c)
{
        return ((unsigned char)c & 0xc0) != 0x80;
}

size_t migration_character_offset(const char *sql, int64_t position)
{
        const char *p = sql;

        while (*p && (!statement_character_begins(*p) || --position > 0))
                p++;
        return (size_t)(p - sql);
}

struct migration_place migration_place(const struct migration_section *section, size_t offset)
{
        const struct migration_piece *piece = section->pieces;
        struct migration_place place = { .column = 1 };
        size_t length;

        while (piece + 1 < section->pieces + section->piece_count && piece[1].offset <= offset)
                piece++;
        place.line = piece->line;
        for (const char *p = section->sql + piece->offset; p <= section->sql + offset; p += length) {
                length = migration_next_statement(p);
                if (length == 0)
                        break;
                place.statement += migration_statement_start(p, length) < length;
        }
        for (const char *p = section->sql + piece->offset; p < section->sql + offset; p++) {
                place.column += statement_character_begins(*p);
                if (*p == '\n')
                        place.line++, place.column = 1;
        }
        return place;
}

bool migration_is_reversible(const struct migration *migration)
{
        const char *at = migration->down.sql;
        size_t length;

        for (; (length = migration_next_statement(at)) > 0; at += length)
                if (migration_statement_start(at, length) < length)
                        return true;
        return false;
}
