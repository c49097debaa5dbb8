/* Scopes of bearer tokens: see scope.h. */
#include "common/contracts/scope.h"

#include "common/base/macros.h"
#include "common/base/memory.h"

#include <string.h>

static enum scope scope_named(const char *word)
{
        static const struct {
                const char *name;
                enum scope scope;
        } scopes[] = {
                { .name = "signup", .scope = SCOPE_SIGNUP }, { .name = "read", .scope = SCOPE_READ },
                { .name = "app", .scope = SCOPE_APP },       { .name = "admin", .scope = SCOPE_ADMIN },
                { .name = "signal", .scope = SCOPE_SIGNAL },
        };

        for (size_t i = 0; i < ARRAY_SIZE(scopes); i++)
                if (strcmp(scopes[i].name, word) == 0)
                        return scopes[i].scope;
        return SCOPE_NONE;
}

int scope_parse_list(const char *list, unsigned *ret)
{
        auto_free char *copy = mem_copy_text(list);
        char *rest = copy, *word;
        unsigned scopes = 0;

        while ((word = strsep(&rest, ",")) != NULL) {
                enum scope scope = scope_named(word);

                if (scope == SCOPE_NONE)
                        return -1;
                scopes |= scope;
        }
        if (scopes & SCOPE_ADMIN)
                scopes |= SCOPE_SIGNUP | SCOPE_READ | SCOPE_SIGNAL;
        *ret = scopes;
        return 0;
}
