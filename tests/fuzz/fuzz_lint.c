/* The linter: whatever a migration holds, findings lie within its lines, are placed as failures are, and can be told.
 */
#include "tests/fuzz/fuzz.h"

#include "common/base/utf8.h"
#include "common/migration/lint.h"

static int count_lines(const char *text)
{
        int lines = 1;

        for (; *text; text++)
                lines += *text == '\n';
        return lines;
}

static void check_finding(const struct migration *m, const struct migration_finding *finding, int lines)
{
        const struct migration_section *section = finding->in_down ? &m->down : &m->up;
        struct migration_place place;

        MUST(migration_rule_is_known(finding->rule) && *finding->reason && *finding->safe_way);
        MUST(finding->place.line >= 1 && finding->place.line <= lines && finding->place.column >= 1);
        MUST(finding->offset <= strlen(section->sql));
        MUST(strlen(finding->object) <= 200);
        MUST(utf8_valid_length(finding->object, strlen(finding->object)) == strlen(finding->object));
        MUST(finding->allowed == (finding->why != NULL));
        MUST(!finding->in_down || !finding->breaking);
        if (finding->place.statement == 0)
                return;
        place = migration_place(section, finding->offset);
        MUST(place.line == finding->place.line && place.column == finding->place.column);
        /* One whose parenthesis is not closed extends into the next piece, where migration_place counts anew. */
        MUST(section->piece_count > 1 || place.statement == finding->place.statement);
}

static void check_findings(const struct migration *m, const struct migration_findings *findings, int lines)
{
        json_t *list = migration_findings_json(findings);

        MUST(json_array_size(list) == findings->count && migration_findings_stopping(findings) <= findings->count);
        for (size_t i = 0; i < findings->count; i++) {
                check_finding(m, &findings->items[i], lines);
                MUST(i == 0 || findings->items[i - 1].place.line <= findings->items[i].place.line);
                MUST(json_is_object(json_array_get(list, i)));
        }
        json_decref(list);
}

/* Both as a file and as what stands in one, with and without a transaction. */
static void lint(const char *before, const uint8_t *bytes, size_t length, const char *behind)
{
        size_t head = strlen(before), tail = strlen(behind);
        char *text = malloc(head + length + tail + 1);
        struct migration_findings findings;
        struct migration m;

        memcpy(text, before, head);
        memcpy(text + head, bytes, length);
        memcpy(text + head + length, behind, tail + 1);
        if (migration_parse("20260105090000_fuzz.sql", text, head + length + tail, &m, NULL) == 0) {
                migration_lint(&m, &findings);
                check_findings(&m, &findings, count_lines(text));
                migration_findings_release(&findings);
                migration_release(&m);
        }
        free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        lint("", bytes, length, "");
        lint("-- migrate:up\n", bytes, length, "\n-- migrate:down\n");
        lint("-- migrate:up transaction:false\n", bytes, length, "\n-- migrate:down\nselect 1;\n");
        lint("-- migrate:up\ndo $$ begin ", bytes, length, " end $$;\n-- migrate:down\nselect 1;\n");
        lint("-- migrate:up\n-- migrate:down\n", bytes, length, "");
        return 0;
}
