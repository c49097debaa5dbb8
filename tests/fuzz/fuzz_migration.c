/* Migration files: parsed or refused, never half; the pieces of any SQL add up to the whole, and whatever is asked
 * about one of them reads no further than its end. */
#include "tests/fuzz/fuzz.h"

#include "common/migration/migration.h"
#include "common/migration/statement_kind.h"

/* In memory of its own, so that reading past it is noticed. */
static void ask_about(const char *piece, size_t length)
{
        char *copy = malloc(length + 1), *index = NULL, *table = NULL;

        memcpy(copy, piece, length);
        copy[length] = '\0';
        MUST(migration_statement_start(copy, length) <= length);
        migration_statement_wrong(copy, length, true);
        migration_statement_wrong(copy, length, false);
        MUST(!statement_is_concurrent(copy, length) || statement_is_alone(copy, length));
        MUST(!statement_is_begin(copy, length) || statement_is_of_session(copy, length));
        statement_index(copy, length, &index, &table);
        MUST(index == NULL || table != NULL);
        free(index);
        free(table);
        free(copy);
}

static void check_places(const struct migration_section *section)
{
        size_t length = strlen(section->sql);
        struct migration_place first = migration_place(section, 0), last = migration_place(section, length);

        MUST(first.line == section->pieces[0].line && first.column == 1);
        MUST(last.line >= 1 && last.column >= 1);
        if (section->piece_count == 1)
                MUST(last.line >= first.line && last.statement >= first.statement);
        MUST(migration_character_offset(section->sql, 1) <= length);
        MUST(migration_character_offset(section->sql, INT64_MAX) == length);
}

static const char *line_of(const char *text, int line)
{
        while (--line > 0 && *text != '\0')
                text += strcspn(text, "\n") + (text[strcspn(text, "\n")] == '\n');
        return text;
}

/* Each piece begins with the line of the file that it names; a section of one piece stands in it as it is. */
static void check_origin(const struct migration_section *section, const char *text)
{
        for (size_t i = 0; i < section->piece_count; i++) {
                const struct migration_piece *piece = &section->pieces[i];
                const char *sql = section->sql + piece->offset;

                MUST(piece->offset <= strlen(section->sql));
                MUST(strncmp(line_of(text, piece->line), sql, strcspn(sql, "\n")) == 0);
        }
        MUST(section->piece_count > 1 || strstr(text, section->sql) != NULL);
}

static void check_statements(const char *sql)
{
        size_t total = 0, length;

        while ((length = migration_next_statement(sql + total)) > 0) {
                ask_about(sql + total, length);
                total += length;
                MUST(total <= strlen(sql));
                MUST(sql[total] == '\0' || sql[total - 1] == ';');
        }
        MUST(total == strlen(sql));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        struct migration migration;
        struct err err;
        char *text = malloc(length + 1);

        memcpy(text, bytes, length);
        text[length] = '\0';
        if (migration_parse("20260105090000_fuzz.sql", text, length, &migration, &err) == 0) {
                MUST(strcmp(migration.version, "20260105090000") == 0 && strlen(migration.checksum) == 64);
                check_origin(&migration.up, text);
                check_origin(&migration.down, text);
                check_places(&migration.up);
                check_statements(migration.up.sql);
                check_statements(migration.down.sql);
                migration_release(&migration);
        } else {
                MUST(err.class == ERR_INPUT && strstr(err.message, "20260105090000_fuzz.sql") != NULL);
        }
        check_statements(text);
        free(text);
        return 0;
}
