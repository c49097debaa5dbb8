/* Goes through a migration, statement by statement: see lint.h. */
#include "common/migration/lint.h"

#include "common/base/memory.h"
#include "common/migration/lint_private.h"
#include "common/migration/statement_kind.h"

#include <string.h>

/* Moves to a byte of the section, counting lines and columns as migration_place does. */
static void lint_move_to(struct lint *lint, size_t offset)
{
        const struct migration_section *section = lint->section;

        for (; lint->offset < offset; lint->offset++) {
                char c = section->sql[lint->offset];

                lint->place.column += ((unsigned char)c & 0xc0) != 0x80;
                if (c == '\n')
                        lint->place.line++, lint->place.column = 1;
                if (lint->piece + 1 < section->piece_count &&
                    section->pieces[lint->piece + 1].offset == lint->offset + 1) {
                        lint->piece++;
                        lint->place =
                                (struct migration_place){ .line = section->pieces[lint->piece].line, .column = 1 };
                }
        }
}

static struct migration_finding lint_finding_at(struct lint *lint, const char *at)
{
        size_t offset = lint->text_offset + (size_t)(at - lint->text);

        lint_move_to(lint, offset);
        return (struct migration_finding){ .in_down = lint->in_down, .offset = lint->offset, .place = lint->place };
}

/* As a person would write it. */
static const char *lint_shown(const char *object)
{
        return strncmp(object, "public.", 7) == 0 ? object + 7 : object;
}

ssize_t lint_report(struct lint *lint, enum lint_rule rule, const char *at, const char *object)
{
        struct migration_finding finding;

        if (lint->in_down && !LINT_ROWS[rule].in_down)
                return -1;
        finding = lint_finding_at(lint, at);
        return lint_add(rule == LINT_UPDATE_BESIDE_DDL ? &lint->updates : &lint->found, rule, &finding,
                        lint_shown(object));
}

/* A transaction that fails leaves nothing behind that could be in the way, and the conditions of a do block are taken
 * to be right. */
void lint_report_repeated(struct lint *lint, const char *at, const char *object)
{
        if (!lint->section->transaction && !lint->in_block)
                lint_report(lint, LINT_NOT_IDEMPOTENT, at, object);
}

/* What is in one transaction with the rest is known at its end. */
static void lint_end_transaction(struct lint *lint)
{
        for (size_t i = 0; lint->ddl && i < lint->updates.count; i++)
                lint_add(&lint->found, LINT_UPDATE_BESIDE_DDL, &lint->updates.items[i], lint->updates.items[i].object);
        migration_findings_release(&lint->updates);
        lint->ddl = false;
        lint->transaction++;
}

/* "select ... into table". */
static void lint_select(struct lint *lint, struct lint_words *words)
{
        static const char *const kinds[] = { "local", "global", "temp", "temporary", "unlogged", "table", NULL };
        auto_free char *table = NULL;

        if (lint->in_block || !lint_find(words, "into")) /* in a block it goes into a variable */
                return;
        lint_next(words);
        while (lint_take_one_of(words, kinds))
                ;
        if ((table = lint_take_name(words)) != NULL)
                lint_make(lint, "table", table);
}

static void lint_reindex(struct lint *lint, const char *at, struct lint_words *words)
{
        static const char *const kinds[] = { "index", "table", "schema", "database", "system", NULL };
        auto_free char *name = NULL;

        if (token_is_mark(&words->token, '('))
                lint_skip(words);
        lint_take_one_of(words, kinds);
        if (lint_take(words, "concurrently") || statement_is_concurrent(at, (size_t)(words->end - at)))
                return;
        name = lint_take_name(words);
        if (name != NULL && lint_made(lint, "table", name) == NULL && lint_made(lint, "index", name) == NULL)
                lint_report(lint, LINT_INDEX_NOT_CONCURRENTLY, at, name);
}

static void lint_block(struct lint *lint, struct lint_words *words);

static void lint_statement(struct lint *lint, const char *at, const char *end)
{
        static const struct {
                const char *word;
                void (*look)(struct lint *lint, const char *at, struct lint_words *words);
        } kinds[] = { { "create", lint_create }, { "alter", lint_alter },      { "drop", lint_drop },
                      { "revoke", lint_revoke }, { "reindex", lint_reindex },  { "update", lint_update },
                      { "delete", lint_delete }, { "truncate", lint_truncate } };
        static const char *const main_words[] = { "select", "insert", "update", "delete", "merge", NULL };
        struct lint_words words = lint_words(at, end);

        at = words.token.at;
        if (lint_take(&words, "with"))
                while (words.token.kind != TOKEN_END && !token_is_one_of(&words.token, main_words))
                        lint_skip(&words);
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (lint_take(&words, kinds[i].word)) {
                        kinds[i].look(lint, at, &words);
                        return;
                }
        if (lint_take(&words, "select"))
                lint_select(lint, &words);
        else if (!lint->in_block && lint_take(&words, "do"))
                lint_block(lint, &words);
}

/* Where in a piece of PL/pgSQL up to a semicolon its statement begins: at once, or behind a word that opens a body. */
static const char *lint_find_statement(const char *at, const char *end)
{
        static const char *const openers[] = { "begin", "then", "else", "loop", NULL };
        static const char *const starts[] = { "create", "alter",  "drop",     "revoke", "reindex",
                                              "update", "delete", "truncate", NULL };
        bool begins = true;

        for (struct lint_words words = lint_words(at, end); words.token.kind != TOKEN_END; lint_next(&words)) {
                if (begins && token_is_one_of(&words.token, starts))
                        return words.token.at;
                begins = token_is_one_of(&words.token, openers);
        }
        return NULL;
}

/* The statements that stand in the body of a do block as they are; those it puts together are not seen. The body is
 * copied: it ends where the scanner does not expect it, and nothing behind it may be read. */
static void lint_read_block(struct lint *lint, const char *body, size_t length)
{
        auto_free char *copy = mem_copy_bytes(body, length);
        const char *const text = lint->text;

        lint->text_offset = (size_t)(body - text);
        lint->text = copy;
        lint->in_block = true;
        for (struct lint_words words = lint_words(copy, copy + length); words.token.kind != TOKEN_END;) {
                const char *at = words.token.at;

                while (words.token.kind != TOKEN_END && !token_is_mark(&words.token, ';'))
                        lint_next(&words);
                if ((at = lint_find_statement(at, words.token.at)) != NULL)
                        lint_statement(lint, at, words.token.at);
                lint_take_mark(&words, ';');
        }
        lint->text = text;
        lint->text_offset = 0;
        lint->in_block = false;
}

/* do [language NAME] $tag$ body $tag$ */
static void lint_block(struct lint *lint, struct lint_words *words)
{
        for (; words->token.kind != TOKEN_END; lint_next(words)) {
                const struct token *token = &words->token;
                const char *body;
                size_t tag;

                if (token->kind != TOKEN_TEXT || *token->at != '$')
                        continue;
                body = memchr(token->at + 1, '$', token->length - 1);
                tag = (size_t)(body + 1 - token->at);
                lint_read_block(lint, body + 1, token->length - 2 * tag);
                return;
        }
}

/* Whether a transaction is open behind the statement; open says whether one was before. */
static bool lint_is_open(const char *at, const char *end, bool open)
{
        static const char *const ends[] = { "commit", "end", "abort", NULL };
        static const char *const whole[] = { "work", "transaction", NULL };
        struct lint_words words = lint_words(at, end);

        if (statement_is_begin(at, (size_t)(end - at)))
                return true;
        if (token_is_one_of(&words.token, ends))
                return false;
        if (!lint_take(&words, "rollback"))
                return open;
        lint_take_one_of(&words, whole);
        return open && token_is(&words.token, "to"); /* a savepoint */
}

static void lint_begin_section(struct lint *lint, const struct migration_section *section, bool in_down)
{
        lint->section = section;
        lint->text = section->sql;
        lint->in_down = in_down;
        lint->piece = 0;
        lint->offset = section->pieces[0].offset; /* a begin that the file does not have may stand before it */
        lint->place = (struct migration_place){ .line = section->pieces[0].line, .column = 1 };
}

static void lint_section(struct lint *lint, const struct migration_section *section, bool in_down)
{
        bool open = false;
        size_t length;

        lint_begin_section(lint, section, in_down);
        for (const char *at = section->sql; (length = migration_next_statement(at)) > 0; at += length) {
                size_t start = migration_statement_start(at, length);

                if (start == length)
                        continue;
                lint_move_to(lint, (size_t)(at + start - section->sql));
                if (at + start >= section->sql + section->pieces[0].offset)
                        lint->place.statement++;
                lint_statement(lint, at, at + length);
                open = lint_is_open(at, at + length, open);
                if (!section->transaction && !open)
                        lint_end_transaction(lint);
        }
        lint_end_transaction(lint);
}

/* Whether a piece does something, apart from beginning and ending transactions, as the parser has it do. */
static bool lint_piece_works(const struct migration_section *section, size_t piece)
{
        const char *at = section->sql + section->pieces[piece].offset;
        const char *end = piece + 1 < section->piece_count ? section->sql + section->pieces[piece + 1].offset : NULL;
        size_t length;

        for (; (length = migration_next_statement(at)) > 0; at += length) {
                size_t start = migration_statement_start(at, length);

                if (end != NULL && at + start >= end)
                        break;
                if (start < length && !statement_is_of_session(at, length))
                        return true;
        }
        return false;
}

/* The downs stand in the opposite order. Each finding is at its own line "-- migrate:down". */
static void lint_find_missing_downs(struct lint *lint, const struct migration *m)
{
        for (size_t i = 0; i < m->up.piece_count && i < m->down.piece_count; i++) {
                size_t down = m->down.piece_count - 1 - i;
                struct migration_finding finding = { .in_down = true, .offset = m->down.pieces[down].offset };

                finding.place = (struct migration_place){ .line = m->down.pieces[down].line - 1, .column = 1 };
                if (lint_piece_works(&m->up, i) && !lint_piece_works(&m->down, down))
                        lint_add(&lint->found, LINT_NO_DOWN, &finding, "");
        }
}

static void lint_apply_allows(struct lint *lint, const struct migration *m)
{
        const char *why[LINT_RULES + 1] = { NULL };

        for (size_t i = 0; i < m->allow_count; i++) {
                const struct migration_allow *allow = &m->allows[i];
                const struct migration_finding finding = { .place = { .line = allow->line, .column = 1 } };
                enum lint_rule rule = lint_find_rule(allow->rule);

                if (rule == LINT_RULES || *allow->why == '\0')
                        lint_add(&lint->found, LINT_BAD_ALLOW, &finding, allow->rule);
                else
                        why[rule] = allow->why;
        }
        lint_settle(&lint->found);
        for (size_t i = 0; i < lint->found.count; i++) {
                struct migration_finding *finding = &lint->found.items[i];
                enum lint_rule rule = lint_find_rule(finding->rule);

                finding->allowed = why[rule] != NULL;
                finding->why = mem_copy_text(why[rule]);
        }
}

void migration_lint(const struct migration *migration, struct migration_findings *ret)
{
        struct lint lint = { 0 };

        lint_section(&lint, &migration->up, false);
        lint_section(&lint, &migration->down, true);
        lint_find_missing_downs(&lint, migration);
        lint_apply_allows(&lint, migration);
        lint_release_objects(&lint);
        *ret = lint.found;
}
