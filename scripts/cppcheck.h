/* What cppcheck must be told of macros from headers it does not read, or from the Makefile. */
#define TENANTRY_CATALOG ""
#define json_array_foreach(array, index, value)                                                                        \
        for (index = 0; index < json_array_size(array) && (value = json_array_get(array, index)) != NULL; index++)
#define json_object_foreach(object, key, value)                                                                        \
        for (key = json_key(object); key != NULL && (value = json_value(object)) != NULL; key = json_next(object))
#define DL_FOREACH(head, el)           for (el = head; el; el = el->next)
#define DL_FOREACH_SAFE(head, el, tmp) for (el = head; el && (tmp = el->next, 1); el = tmp)
#define LL_FOREACH(head, el)           for (el = head; el; el = el->next)
#define LL_FOREACH_SAFE(head, el, tmp) for (el = head; el && (tmp = el->next, 1); el = tmp)
#define HASH_ITER(hh, head, el, tmp)   for (el = head; el && (tmp = el->hh.next, 1); el = tmp)
