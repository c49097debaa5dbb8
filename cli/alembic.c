/* Cuts alembic's SQL where a transaction begins or ends: see alembic.h. */
#include "cli/alembic.h"

#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/migration/migration.h"
#include "common/migration/token.h"

#include <ctype.h>
#include <string.h>

/* The way through the text. */
struct cutter {
        struct alembic *alembic;
        enum alembic_direction direction;
        const char *opened;  /* the BEGIN of the transaction we are in; NULL outside */
        struct buf sql;      /* of the part that we are in */
        struct buf comments; /* before a BEGIN or COMMIT: they belong to what comes next */
        bool empty;          /* no statement in the part yet */
        size_t revision;     /* revisions that had begun before the part's first statement */
        struct err *err;
};

enum boundary { BOUNDARY_NONE, BOUNDARY_BEGIN, BOUNDARY_END, BOUNDARY_OTHER };

static int alembic_line(const struct alembic *alembic, const char *at)
{
        struct migration_piece piece = { .line = 1 };
        struct migration_section whole = { .sql = alembic->sql, .pieces = &piece, .piece_count = 1 };

        return migration_place(&whole, (size_t)(at - alembic->sql)).line;
}

/* What alembic prints is plain: anything else that begins or ends a transaction was somebody's own. A rollback may be
 * to a savepoint; whether it may stand in a transaction is for migration_statement_wrong to say. */
static enum boundary alembic_boundary(const char *at, const char *end, bool inside)
{
        static const char *const ends[] = { "commit", "end", NULL }, *const undone[] = { "rollback", "abort", NULL };
        static const char *const whole[] = { "transaction", "work", NULL };
        struct token first = token_next(&at, end), next = token_next(&at, end);
        bool begins = token_is(&first, "begin") || (token_is(&first, "start") && token_is(&next, "transaction"));

        if (!begins && !token_is_one_of(&first, ends) && (inside || !token_is_one_of(&first, undone)))
                return BOUNDARY_NONE;
        if (token_is(&next, "prepared"))
                return BOUNDARY_NONE;
        if (token_is_one_of(&next, whole))
                next = token_next(&at, end);
        if ((next.kind != TOKEN_END && !token_is_mark(&next, ';')) || token_is_one_of(&first, undone))
                return BOUNDARY_OTHER;
        return begins ? BOUNDARY_BEGIN : BOUNDARY_END;
}

int alembic_complain(const struct alembic *alembic, const char *statement, const char *wrong, struct err *err)
{
        return err_field(err, alembic->name, "%s line %d: \"%.*s\": %s", alembic->name,
                         alembic_line(alembic, statement), (int)MIN(strcspn(statement, "\r\n;"), 60), statement, wrong);
}

/* On lines of their own, so that they swallow nothing that comes after them. */
static void alembic_keep_comments(struct cutter *cutter, const char *at, size_t length)
{
        while (length > 0 && isspace((unsigned char)at[length - 1]))
                length--;
        buf_add(&cutter->comments, at, length);
        if (length > 0)
                buf_add_text(&cutter->comments, "\n");
}

/* Blank lines around a part are those that stood around its BEGIN and COMMIT. */
static char *alembic_trimmed(const struct buf *sql)
{
        const char *start = sql->data, *end = start + sql->length;

        while (start < end && isspace((unsigned char)*start))
                start++;
        while (end > start && isspace((unsigned char)end[-1]))
                end--;
        return mem_copy_bytes(start, (size_t)(end - start));
}

static int alembic_end_part(struct cutter *cutter)
{
        struct alembic *alembic = cutter->alembic;

        if (alembic->part_count > 2 * ALEMBIC_LIMIT)
                return err_field(cutter->err, alembic->name,
                                 "%s has more than %d transactions: import fewer revisions at a time", alembic->name,
                                 ALEMBIC_LIMIT);
        buf_add(&cutter->sql, "", 0);
        alembic->parts = mem_resize(alembic->parts, (alembic->part_count + 1) * sizeof(alembic->parts[0]));
        alembic->parts[alembic->part_count++] = (struct alembic_part){ .sql = alembic_trimmed(&cutter->sql),
                                                                       .transaction = cutter->opened != NULL,
                                                                       .empty = cutter->empty,
                                                                       .revision = cutter->revision };
        buf_reset(&cutter->sql);
        cutter->empty = true;
        cutter->revision = 0;
        return 0;
}

/* "a -> b" of "-- Running upgrade a -> b", which is "-- Running downgrade b -> a" the other way round; on one side
 * there is nothing where there is no revision yet. */
static int alembic_add_revision(struct cutter *cutter, const char *line, size_t length)
{
        static const char *const words[] = { "-- Running upgrade ", "-- Running downgrade " };
        struct alembic *alembic = cutter->alembic;
        auto_free char *copy = mem_copy_bytes(line, length);
        char *from, *to;

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                if (strncmp(copy, words[i], strlen(words[i])) != 0)
                        continue;
                if (i != cutter->direction)
                        return alembic_complain(alembic, line,
                                                i == ALEMBIC_UPGRADE
                                                        ? "an upgrade; --down is for `alembic downgrade B:A --sql`"
                                                        : "a downgrade; here belongs `alembic upgrade A:B --sql`",
                                                cutter->err);
                from = copy + strlen(words[i]);
                to = strstr(from, " ->");
                if (to == NULL)
                        return 0;
                *to = '\0';
                to += to[3] == ' ' ? 4 : 3;
                if (alembic->revision_count == ALEMBIC_LIMIT)
                        return err_field(cutter->err, alembic->name,
                                         "%s has more than %d revisions: import fewer at a time", alembic->name,
                                         ALEMBIC_LIMIT);
                alembic->revisions =
                        mem_resize(alembic->revisions, (alembic->revision_count + 1) * sizeof(alembic->revisions[0]));
                alembic->revisions[alembic->revision_count++] =
                        i == ALEMBIC_UPGRADE ? mem_printf("%s -> %s", from, to) : mem_printf("%s -> %s", to, from);
        }
        return 0;
}

/* In the blanks and comments before a statement. */
static int alembic_add_revisions(struct cutter *cutter, const char *at, const char *end)
{
        int rc = 0;

        while (rc == 0 && at < end) {
                size_t length = 0;

                while (at + length < end && at[length] != '\n' && at[length] != '\r')
                        length++;
                rc = alembic_add_revision(cutter, at, length);
                at += length + 1;
        }
        return rc;
}

static int alembic_cross(struct cutter *cutter, enum boundary boundary, const char *statement)
{
        auto_free char *nested = NULL;

        if (boundary == BOUNDARY_OTHER)
                return alembic_complain(cutter->alembic, statement,
                                        "only a plain BEGIN and COMMIT, as alembic prints them, can be imported",
                                        cutter->err);
        if (boundary == BOUNDARY_END && cutter->opened == NULL)
                return alembic_complain(cutter->alembic, statement,
                                        "ends no transaction: a revision that runs op.execute(\"COMMIT\") must use "
                                        "autocommit_block() instead",
                                        cutter->err);
        if (boundary == BOUNDARY_BEGIN && cutter->opened != NULL) {
                nested = mem_printf("the transaction that begins at line %d has not ended",
                                    alembic_line(cutter->alembic, cutter->opened));
                return alembic_complain(cutter->alembic, statement, nested, cutter->err);
        }
        if (alembic_end_part(cutter) < 0)
                return -ERR_INPUT;
        cutter->opened = boundary == BOUNDARY_BEGIN ? statement : NULL;
        return 0;
}

/* at: a statement with what stands before it. */
static int alembic_take(struct cutter *cutter, const char *at, size_t length)
{
        const char *statement = at + migration_statement_start(at, length), *end = at + length, *p = at, *wrong;
        enum boundary boundary = BOUNDARY_NONE;

        if (alembic_add_revisions(cutter, at, statement) < 0)
                return -ERR_INPUT;
        if (statement < end)
                boundary = alembic_boundary(statement, end, cutter->opened != NULL);
        if (boundary != BOUNDARY_NONE) {
                if (alembic_cross(cutter, boundary, statement) < 0)
                        return -ERR_INPUT;
                alembic_keep_comments(cutter, at, (size_t)(statement - at));
                return 0;
        }
        if (statement == end) { /* only comments, perhaps with a semicolon too many: op.execute("...;") */
                alembic_keep_comments(cutter, at, length - (token_next(&p, end).kind == TOKEN_MARK));
                return 0;
        }
        wrong = migration_statement_wrong(at, length, cutter->opened != NULL);
        if (wrong != NULL)
                return alembic_complain(cutter->alembic, statement, wrong, cutter->err);
        if (cutter->empty)
                cutter->revision = cutter->alembic->revision_count;
        cutter->empty = false;
        buf_add(&cutter->sql, cutter->comments.data, cutter->comments.length);
        if (cutter->comments.length > 0 && *at == '\n') /* they have ended their line themselves */
                at++, length--;
        buf_reset(&cutter->comments);
        buf_add(&cutter->sql, at, length);
        return 0;
}

/* What stands behind the last statement has nothing to go before. */
static void alembic_add_last_comments(struct alembic *alembic, const struct buf *comments)
{
        struct alembic_part *last = alembic->parts + alembic->part_count - 1;
        auto_free char *text = alembic_trimmed(comments);
        char *sql;

        while (last > alembic->parts && last->empty)
                last--;
        if (*text == '\0' || last->empty)
                return;
        sql = mem_printf("%s\n\n%s", last->sql, text);
        free(last->sql);
        last->sql = sql;
}

static int alembic_cut(struct cutter *cutter)
{
        const char *at = cutter->alembic->sql;
        size_t length;

        for (; (length = migration_next_statement(at)) > 0; at += length)
                if (alembic_take(cutter, at, length) < 0)
                        return -ERR_INPUT;
        if (cutter->opened != NULL)
                return alembic_complain(cutter->alembic, cutter->opened,
                                        "this transaction is never ended: did alembic stop with an error?",
                                        cutter->err);
        if (alembic_end_part(cutter) < 0)
                return -ERR_INPUT;
        alembic_add_last_comments(cutter->alembic, &cutter->comments);
        if (cutter->direction == ALEMBIC_DOWNGRADE)
                alembic_join_drop(cutter->alembic);
        if (alembic_count_full(cutter->alembic) == 0)
                return err_field(cutter->err, cutter->alembic->name, "%s has no statements: there is nothing to import",
                                 cutter->alembic->name);
        return 0;
}

/* What would begin a section of the file we write. Also in the middle of a line, which may become the beginning of one.
 */
static int alembic_refuse_directives(const struct alembic *alembic, struct err *err)
{
        const char *end = alembic->sql; /* of the line */

        for (const char *p = alembic->sql; *p; p++) {
                if (p >= end)
                        end = p + strcspn(p, "\n");
                if (migration_is_directive(p, end))
                        return alembic_complain(alembic, p, "it would begin a section of the file", err);
        }
        return 0;
}

int alembic_split(const char *name, const char *bytes, size_t length, enum alembic_direction direction,
                  struct alembic *ret, struct err *err)
{
        struct alembic alembic = { .name = name, .sql = mem_copy_bytes(bytes, length) };
        struct migration_piece piece = { .line = 1 };
        struct migration_section whole = { .sql = alembic.sql, .pieces = &piece, .piece_count = 1 };
        struct cutter cutter = { .alembic = &alembic, .direction = direction, .empty = true, .err = err };
        int rc = migration_check_bytes(name, bytes, length, err);

        buf_add(&cutter.comments, "", 0);
        if (rc == 0)
                rc = migration_check_quotes(name, &whole, err);
        if (rc == 0)
                rc = alembic_refuse_directives(&alembic, err);
        if (rc == 0)
                rc = alembic_cut(&cutter);
        buf_free(&cutter.sql);
        buf_free(&cutter.comments);
        if (rc < 0)
                alembic_release(&alembic);
        else
                *ret = alembic;
        return rc;
}

void alembic_release(struct alembic *alembic)
{
        for (size_t i = 0; i < alembic->part_count; i++)
                free(alembic->parts[i].sql);
        for (size_t i = 0; i < alembic->revision_count; i++)
                free(alembic->revisions[i]);
        free(alembic->parts);
        free(alembic->revisions);
        free(alembic->sql);
        memset(alembic, 0, sizeof(*alembic));
}

size_t alembic_count_full(const struct alembic *alembic)
{
        size_t count = 0;

        for (size_t i = 0; i < alembic->part_count; i++)
                count += !alembic->parts[i].empty;
        return count;
}
