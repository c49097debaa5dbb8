/* Migration files: parsed or refused, never half; and the pieces of any SQL add up to the whole. */
#include "tests/fuzz/fuzz.h"

#include "common/migration/migration.h"

static void check_pieces(const char *sql)
{
        size_t total = 0, length;

        while ((length = migration_next_statement(sql + total)) > 0) {
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
                MUST(strlen(migration.up.sql) + strlen(migration.down.sql) < length);
                MUST(strstr(text, migration.up.sql) != NULL && strstr(text, migration.down.sql) != NULL);
                check_pieces(migration.up.sql);
                check_pieces(migration.down.sql);
                migration_release(&migration);
        } else {
                MUST(err.class == ERR_INPUT && strstr(err.message, "20260105090000_fuzz.sql") != NULL);
        }
        check_pieces(text);
        free(text);
        return 0;
}
