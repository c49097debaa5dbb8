/* "-- tenantry:allow RULE why": see allow.h. */
#include "common/migration/allow.h"

#include "common/base/memory.h"

#include <ctype.h>
#include <string.h>

#define ALLOW_LIMIT 100

static const char *allow_skip_blanks(const char *text, const char *end)
{
        while (text < end && isspace((unsigned char)*text))
                text++;
        return text;
}

static const char *allow_skip_word(const char *text, const char *end)
{
        while (text < end && !isspace((unsigned char)*text))
                text++;
        return text;
}

/* Behind "-- tenantry:allow"; NULL if the line is something else. */
static const char *allow_find(const char *line, const char *end)
{
        static const char word[] = "tenantry:allow";
        const char *p = allow_skip_blanks(line, end), *behind;

        if (end - p < 2 || p[0] != '-' || p[1] != '-')
                return NULL;
        p = allow_skip_blanks(p + 2, end);
        behind = allow_skip_word(p, end);
        return (size_t)(behind - p) == strlen(word) && memcmp(p, word, strlen(word)) == 0 ? behind : NULL;
}

int allow_read(const char *name, const char *line, const char *end, int number, struct migration *migration,
               struct err *err)
{
        const char *at = allow_find(line, end), *rule, *why;

        if (at == NULL)
                return 0;
        if (migration->allow_count == ALLOW_LIMIT)
                return err_field(err, name, "%s line %d: more than %d tenantry:allow", name, number, ALLOW_LIMIT);
        rule = allow_skip_blanks(at, end);
        at = allow_skip_word(rule, end);
        why = allow_skip_blanks(at, end);
        while (end > why && isspace((unsigned char)end[-1]))
                end--;
        migration->allows = mem_resize(migration->allows, (migration->allow_count + 1) * sizeof(migration->allows[0]));
        migration->allows[migration->allow_count++] =
                (struct migration_allow){ .rule = mem_copy_bytes(rule, (size_t)(at - rule)),
                                          .why = mem_copy_bytes(why, (size_t)(end - why)),
                                          .line = number };
        return 0;
}

void allow_release(struct migration *migration)
{
        for (size_t i = 0; i < migration->allow_count; i++) {
                free(migration->allows[i].rule);
                free(migration->allows[i].why);
        }
        free(migration->allows);
}
