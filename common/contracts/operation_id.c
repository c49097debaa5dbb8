/* Ids of operations: see operation_id.h. */
#include "common/contracts/operation_id.h"

#include <stdio.h>
#include <string.h>

/* The first half names the operation, the second is derived from it; the version and variant digits stay as they are.
 */
static struct id operation_id_with_check(const char *half)
{
        struct id check = id_derive("tenantry operation", half, NULL), id;

        snprintf(id.text, sizeof(id.text), "%.18s%s", half, check.text + 18);
        return id;
}

struct id operation_id_make(const char *caller, const char *route, const char *key)
{
        struct id named =
                key ? id_derive("operation", caller, route, key, NULL) : id_derive("operation", id_new().text, NULL);

        named.text[18] = '\0';
        return operation_id_with_check(named.text);
}

bool operation_id_is_ours(const char *text)
{
        char half[19];

        if (!id_is_valid(text))
                return false;
        snprintf(half, sizeof(half), "%.18s", text);
        return strcmp(operation_id_with_check(half).text, text) == 0;
}
