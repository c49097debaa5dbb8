/* How much two words differ: see spelling.h. */
#include "common/base/spelling.h"

#include "common/base/macros.h"

#include <string.h>

#define WORD_LIMIT 64
#define LONG_WORD  10 /* from this length on, two letters may be wrong */

size_t spelling_distance(const char *a, const char *b)
{
        size_t row[WORD_LIMIT + 1], length = strnlen(b, WORD_LIMIT), rows = strnlen(a, WORD_LIMIT);

        for (size_t k = 0; k <= length; k++)
                row[k] = k;
        for (size_t i = 1; i <= rows; i++) {
                size_t before = row[0];

                row[0] = i;
                for (size_t k = 1; k <= length; k++) {
                        size_t change = before + (a[i - 1] != b[k - 1]);

                        before = row[k];
                        row[k] = MIN(change, MIN(row[k], row[k - 1]) + 1);
                }
        }
        return row[length];
}

bool spelling_is_near(const char *word, const char *name)
{
        size_t steps = spelling_distance(word, name);

        return steps > 0 && steps <= (strlen(name) >= LONG_WORD ? 2 : 1);
}
