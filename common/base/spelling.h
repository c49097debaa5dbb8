/* How much two words differ, for "did you mean" hints. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* How many letters must be inserted, deleted or changed to turn one word into the other; only the beginning of long
 * words counts. */
size_t spelling_distance(const char *a, const char *b);
/* Whether word is so similar to name that it is most likely a misspelling of it; false if they are equal. */
bool spelling_is_near(const char *word, const char *name);
