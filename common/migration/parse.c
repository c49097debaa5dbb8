/* Parsing of migration files: see migration.h. */
#include "common/migration/migration.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"
#include "common/base/utf8.h"
#include "common/migration/allow.h"
#include "common/migration/token.h"

#include <ctype.h>
#include <string.h>

struct reader {
        const char *name, *at, *end;
        int line;
};

enum directive { DIRECTIVE_NONE, DIRECTIVE_UP, DIRECTIVE_DOWN };

static const char *parse_skip_blanks(const char *text, const char *end)
{
        while (text < end && (*text == ' ' || *text == '\t'))
                text++;
        return text;
}

/* Including a line's carriage return. */
static const char *parse_skip_space(const char *text, const char *end)
{
        while (text < end && isspace((unsigned char)*text))
                text++;
        return text;
}

/* "-- migrate:up" with or without the space; *ret_rest is what follows the word. */
static enum directive parse_directive_of(const char *line, const char *end, const char **ret_rest)
{
        const char *p = line;

        if (end - p < 2 || p[0] != '-' || p[1] != '-')
                return DIRECTIVE_NONE;
        p = parse_skip_blanks(p + 2, end);
        if (end - p >= 10 && strncmp(p, "migrate:up", 10) == 0 && (p + 10 == end || isspace((unsigned char)p[10])))
                return *ret_rest = p + 10, DIRECTIVE_UP;
        if (end - p >= 12 && strncmp(p, "migrate:down", 12) == 0 && (p + 12 == end || isspace((unsigned char)p[12])))
                return *ret_rest = p + 12, DIRECTIVE_DOWN;
        return DIRECTIVE_NONE;
}

bool migration_is_directive(const char *line, const char *end)
{
        return parse_directive_of(line, end, &end) != DIRECTIVE_NONE;
}

static int parse_options(const struct reader *reader, const char *text, const char *end,
                         struct migration_section *section, struct err *err)
{
        bool seen = false;

        section->transaction = true;
        for (text = parse_skip_space(text, end); text < end; text = parse_skip_space(text, end)) {
                const char *start = text;
                size_t length;

                while (text < end && !isspace((unsigned char)*text))
                        text++;
                length = (size_t)(text - start);
                if (seen)
                        return err_field(err, reader->name, "%s line %d: a second option \"%.*s\"; there is only one",
                                         reader->name, reader->line, (int)MIN(length, 40), start);
                if (length == 17 && strncmp(start, "transaction:false", 17) == 0)
                        section->transaction = false;
                else if (length != 16 || strncmp(start, "transaction:true", 16) != 0)
                        return err_field(
                                err, reader->name,
                                "%s line %d: unknown option \"%.*s\"; only transaction:true and transaction:false "
                                "are known",
                                reader->name, reader->line, (int)MIN(length, 40), start);
                seen = true;
        }
        return 0;
}

static bool parse_is_comment_or_blank(const char *line, const char *end)
{
        const char *p = parse_skip_blanks(line, end);

        return p == end || *p == '\r' || (end - p >= 2 && p[0] == '-' && p[1] == '-');
}

/* The text of one migrate:up or migrate:down. */
struct block {
        enum directive directive;
        struct migration_section section;
};

struct blocks {
        struct block *items;
        size_t count;
};

static void parse_release_section(struct migration_section *section)
{
        free(section->sql);
        free(section->pieces);
        memset(section, 0, sizeof(*section));
}

static void parse_release_blocks(struct blocks *blocks)
{
        for (size_t i = 0; i < blocks->count; i++)
                parse_release_section(&blocks->items[i].section);
        free(blocks->items);
}

static struct migration_section *parse_add_block(struct blocks *blocks, enum directive directive, int line)
{
        struct block *block;

        blocks->items = mem_resize(blocks->items, (blocks->count + 1) * sizeof(blocks->items[0]));
        block = &blocks->items[blocks->count++];
        *block = (struct block){ .directive = directive };
        block->section.pieces = NEW(struct migration_piece);
        block->section.pieces[0].line = line + 1;
        block->section.piece_count = 1;
        return &block->section;
}

/* Each migrate:up has its migrate:down behind it, before the next one. */
static int parse_begin_block(const struct reader *reader, enum directive directive, const char *rest, const char *end,
                             struct blocks *blocks, struct err *err)
{
        enum directive former = blocks->count ? blocks->items[blocks->count - 1].directive : DIRECTIVE_NONE;
        struct migration_section *section;

        if (directive == DIRECTIVE_DOWN && former == DIRECTIVE_NONE)
                return err_field(err, reader->name, "%s line %d: migrate:down before migrate:up", reader->name,
                                 reader->line);
        if (directive == DIRECTIVE_DOWN && former == DIRECTIVE_DOWN)
                return err_field(err, reader->name, "%s line %d: a second migrate:down for the same migrate:up",
                                 reader->name, reader->line);
        if (directive == DIRECTIVE_UP && former == DIRECTIVE_UP)
                return err_field(err, reader->name,
                                 "%s line %d: the migrate:up before this one has no migrate:down (it may be empty)",
                                 reader->name, reader->line);
        section = parse_add_block(blocks, directive, reader->line);
        return parse_options(reader, rest, end, section, err);
}

static void parse_end_block(struct blocks *blocks, struct buf *text)
{
        if (blocks->count > 0) {
                buf_add(text, "", 0);
                blocks->items[blocks->count - 1].section.sql = buf_take(text);
        }
}

static int parse_blocks(struct reader *reader, struct blocks *blocks, struct migration *migration, struct err *err)
{
        auto_buf text = { 0 };
        int rc = 0;

        while (rc == 0 && reader->at < reader->end) {
                const char *newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
                const char *end = newline ? newline : reader->end, *rest = end;
                enum directive directive = parse_directive_of(reader->at, end, &rest);

                reader->line++;
                rc = allow_read(reader->name, reader->at, end, reader->line, migration, err);
                if (rc == 0 && directive != DIRECTIVE_NONE) {
                        parse_end_block(blocks, &text);
                        rc = parse_begin_block(reader, directive, rest, end, blocks, err);
                } else if (blocks->count > 0) {
                        buf_add(&text, reader->at, (size_t)((newline ? newline + 1 : end) - reader->at));
                } else if (!parse_is_comment_or_blank(reader->at, end)) {
                        rc = err_field(err, reader->name, "%s line %d: only comments may precede migrate:up",
                                       reader->name, reader->line);
                }
                reader->at = newline ? newline + 1 : end;
        }
        if (rc == 0)
                parse_end_block(blocks, &text);
        return rc;
}

/* Appends a block to what is run before it. */
static void parse_join(struct migration_section *whole, const struct migration_section *block, struct buf *sql)
{
        bool wrapped = block->transaction && !whole->transaction;

        if (whole->piece_count > 0)         /* behind an empty one too: no two begin at the same place */
                buf_add_text(sql, "\n;\n"); /* the last statement needs no semicolon of its own */
        if (wrapped)
                buf_add_text(sql, "begin;\n");
        whole->pieces = mem_resize(whole->pieces, (whole->piece_count + 1) * sizeof(whole->pieces[0]));
        whole->pieces[whole->piece_count++] =
                (struct migration_piece){ .offset = sql->length, .line = block->pieces[0].line };
        buf_add_text(sql, block->sql);
        if (wrapped)
                buf_add_text(sql, "\n;\ncommit;");
}

/* Of the blocks of one kind, the first one's text first, or the last one's. */
static void parse_join_blocks(const struct blocks *blocks, enum directive directive, bool last_first,
                              struct migration_section *whole)
{
        auto_buf sql = { 0 };

        whole->transaction = true;
        for (size_t i = 0; i < blocks->count; i++)
                if (blocks->items[i].directive == directive)
                        whole->transaction &= blocks->items[i].section.transaction;
        buf_add(&sql, "", 0);
        for (size_t i = 0; i < blocks->count; i++) {
                const struct block *block = &blocks->items[last_first ? blocks->count - 1 - i : i];

                if (block->directive == directive)
                        parse_join(whole, &block->section, &sql);
        }
        whole->sql = buf_take(&sql);
}

static int parse_name(const char *name, struct migration *migration, struct err *err)
{
        size_t digits = strspn(name, "0123456789"), length = strlen(name);

        if (digits == 0 || digits > 50 || length < 5 || strcmp(name + length - 4, ".sql") != 0)
                return err_field(err, name, "%s: a migration's name begins with its version in digits and ends in .sql",
                                 name);
        migration->version = mem_copy_bytes(name, digits);
        migration->name = mem_copy_text(name);
        return 0;
}

void migration_release(struct migration *migration)
{
        free(migration->version);
        free(migration->name);
        free(migration->text);
        free(migration->verify);
        parse_release_section(&migration->up);
        parse_release_section(&migration->down);
        allow_release(migration);
        memset(migration, 0, sizeof(*migration));
}

static int parse_check_statements(const char *name, const struct migration_section *section, struct err *err)
{
        const char *at = section->sql, *wrong, *start;
        size_t length;

        for (; (length = migration_next_statement(at)) > 0; at += length) {
                start = at + migration_statement_start(at, length);
                if ((wrong = migration_statement_wrong(at, length, section->transaction)) != NULL)
                        return err_field(err, name, "%s line %d: \"%.*s\": %s", name,
                                         migration_place(section, (size_t)(start - section->sql)).line,
                                         (int)MIN(strcspn(start, "\r\n;"), 60), start, wrong);
        }
        return 0;
}

/* Anything left open at the end of a file would swallow our own statements after it. */
int migration_check_quotes(const char *name, const struct migration_section *section, struct err *err)
{
        const char *at = section->sql;
        struct token token;

        do {
                token = token_next(&at, NULL);
                if (token.open)
                        return err_field(err, name, "%s line %d: this %s is never closed: %.*s", name,
                                         migration_place(section, (size_t)(token.at - section->sql)).line,
                                         token.kind == TOKEN_END ? "comment" : "quote",
                                         (int)MIN(strcspn(token.at, "\r\n"), 60), token.at);
        } while (token.kind != TOKEN_END);
        return 0;
}

static int parse_check_section(const char *name, const struct migration_section *section, struct err *err)
{
        int rc = migration_check_quotes(name, section, err);

        return rc == 0 ? parse_check_statements(name, section, err) : rc;
}

/* PostgreSQL would refuse the bytes too, but not say where they are. */
int migration_check_bytes(const char *name, const char *bytes, size_t length, struct err *err)
{
        int line = 1;
        size_t bad;

        if (length > MIGRATION_FILE_LIMIT)
                return err_field(err, name, "%s is larger than %d bytes", name, MIGRATION_FILE_LIMIT);
        if (memchr(bytes, '\0', length) != NULL)
                return err_field(err, name, "%s has a NUL byte", name);
        if (length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
                return err_field(err, name, "%s begins with a byte order mark (EF BB BF): save it without one", name);
        bad = utf8_valid_length(bytes, length);
        if (bad == length)
                return 0;
        for (size_t i = 0; i < bad; i++)
                line += bytes[i] == '\n';
        return err_field(err, name, "%s line %d: byte %zu (%02X) is not UTF-8, which a migration must be", name, line,
                         bad + 1, (unsigned char)bytes[bad]);
}

static int parse_check_blocks(const char *name, const struct blocks *blocks, struct err *err)
{
        if (blocks->count == 0)
                return err_field(err, name, "%s has no migrate:up", name);
        if (blocks->items[blocks->count - 1].directive == DIRECTIVE_UP)
                return err_field(err, name, "%s has no migrate:down%s (it may be empty)", name,
                                 blocks->count > 1 ? " for its last migrate:up" : "");
        for (size_t i = 0; i < blocks->count; i++)
                if (parse_check_section(name, &blocks->items[i].section, err) < 0)
                        return -ERR_INPUT;
        return 0;
}

int migration_parse(const char *name, const char *bytes, size_t length, struct migration *ret, struct err *err)
{
        struct reader reader = { .name = name, .at = bytes, .end = bytes + length };
        struct migration migration = { 0 };
        struct blocks blocks = { 0 };
        struct crypto_digest digest;
        auto_free char *hex = NULL;
        int rc = parse_name(name, &migration, err);

        if (rc == 0)
                rc = migration_check_bytes(name, bytes, length, err);
        if (rc == 0)
                rc = parse_blocks(&reader, &blocks, &migration, err);
        if (rc == 0)
                rc = parse_check_blocks(name, &blocks, err);
        if (rc < 0) {
                parse_release_blocks(&blocks);
                migration_release(&migration);
                return rc;
        }
        parse_join_blocks(&blocks, DIRECTIVE_UP, false, &migration.up);
        parse_join_blocks(&blocks, DIRECTIVE_DOWN, true, &migration.down);
        parse_release_blocks(&blocks);
        migration.text = mem_copy_bytes(bytes, length);
        crypto_sha256(bytes, length, &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        memcpy(migration.checksum, hex, sizeof(migration.checksum));
        *ret = migration;
        return 0;
}
