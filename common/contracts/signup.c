/* What follows from the data of a signup: see signup.h. */
#include "common/contracts/signup.h"

#include "common/base/memory.h"

#include <ctype.h>
#include <string.h>

#define SLUG_MOST 32

/* ASCII letters and digits stay, everything else becomes one hyphen. A name in another script becomes "tenant". */
static void slug_of(const char *company, char slug[SLUG_MOST + 1])
{
        size_t length = 0;

        for (; *company && length < SLUG_MOST; company++) {
                if (isalnum((unsigned char)*company))
                        slug[length++] = (char)tolower((unsigned char)*company);
                else if (length > 0 && slug[length - 1] != '-')
                        slug[length++] = '-';
        }
        while (length > 0 && slug[length - 1] == '-')
                length--;
        slug[length] = '\0';
        if (length < 3)
                strcpy(slug, "tenant");
}

void signup_normalize(json_t *data)
{
        char slug[SLUG_MOST + 1];
        auto_free char *email = mem_copy_text(json_text(data, "email"));

        for (char *p = email; *p; p++)
                *p = (char)tolower((unsigned char)*p);
        json_set_text(data, "email", email);
        slug_of(json_text(data, "company"), slug);
        json_set_text(data, "slug", slug);
}
