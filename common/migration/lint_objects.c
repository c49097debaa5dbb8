/* What a file has made so far: tables, and what belongs to others. Nobody uses it yet, so most rules are not for it. */
#include "common/base/memory.h"
#include "common/migration/lint_private.h"

#include <search.h>
#include <string.h>

static int lint_compare(const void *a, const void *b)
{
        const struct lint_object *one = a, *other = b;

        return strcmp(one->key, other->key);
}

static struct lint_object *lint_look_up(const struct lint *lint, const char *kind, const char *name)
{
        auto_free char *key = mem_printf("%s %s", kind, name);
        const struct lint_object wanted = { .key = key };
        struct lint_object **found = tfind(&wanted, &lint->objects, lint_compare);

        return found ? *found : NULL;
}

struct lint_object *lint_note(struct lint *lint, const char *kind, const char *name)
{
        struct lint_object *object = lint_look_up(lint, kind, name);

        if (object != NULL)
                return object;
        object = NEW(struct lint_object);
        object->key = mem_printf("%s %s", kind, name);
        object->finding = -1;
        if (tsearch(object, &lint->objects, lint_compare) == NULL)
                abort(); /* out of memory */
        return object;
}

struct lint_object *lint_make(struct lint *lint, const char *kind, const char *name)
{
        struct lint_object *object = lint_note(lint, kind, name);

        object->made = true;
        object->in_down = lint->in_down;
        object->transaction = lint->transaction;
        return object;
}

struct lint_object *lint_made(const struct lint *lint, const char *kind, const char *name)
{
        struct lint_object *object = lint_look_up(lint, kind, name);

        return object != NULL && object->made ? object : NULL;
}

bool lint_made_relation(const struct lint *lint, const char *name)
{
        static const char *const kinds[] = { "table", "view", "sequence" };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (lint_made(lint, kinds[i], name) != NULL)
                        return true;
        return false;
}

bool lint_names_made_column(const struct lint *lint, const char *table, struct lint_words words)
{
        while (words.token.kind != TOKEN_END) {
                auto_free char *word = lint_take_word(&words), *column = NULL;

                if (word == NULL) {
                        lint_next(&words);
                        continue;
                }
                column = lint_part(table, word);
                if (lint_made(lint, "column", column) != NULL)
                        return true;
        }
        return false;
}

void lint_unmake(struct lint *lint, const char *kind, const char *name)
{
        struct lint_object *object = lint_look_up(lint, kind, name);

        if (object != NULL)
                object->made = false;
}

char *lint_part(const char *table, const char *part)
{
        return mem_printf("%s.%s", table, part);
}

static void lint_free_object(void *node)
{
        struct lint_object *object = node;

        free(object->key);
        free(object->column);
        free(object);
}

void lint_release_objects(struct lint *lint)
{
        tdestroy(lint->objects, lint_free_object);
        lint->objects = NULL;
}
