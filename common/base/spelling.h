/* How much two words differ, to say what somebody may have meant. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* How many letters must be put in, left out or changed to make one word the other; of long words their beginning. */
size_t spelling_distance(const char *a, const char *b);
/* Whether word is so like name that it can hardly have been meant for anything else; not where they are the same. */
bool spelling_is_near(const char *word, const char *name);
