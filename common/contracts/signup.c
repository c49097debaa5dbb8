/* What follows from the data of a signup: see signup.h. */
#include "common/contracts/signup.h"

#include "common/base/memory.h"
#include "common/contracts/mail_address.h"

#include <ctype.h>
#include <string.h>

#define SLUG_MOST 32

/* Replacements for non-ASCII Latin letters (U+00C0 to U+017F, as pairs of UTF-8 and ASCII); other letters become a
 * hyphen. */
static const char *const FOLDED[][2] = {
        { "àáâãåāăąÀÁÂÃÅĀĂĄ", "a" },
        { "äæÄÆ", "ae" },
        { "çćĉċčÇĆĈĊČ", "c" },
        { "ďđðĎĐÐ", "d" },
        { "èéêëēĕėęěÈÉÊËĒĔĖĘĚ", "e" },
        { "ĝğġģĜĞĠĢ", "g" },
        { "ĥħĤĦ", "h" },
        { "ìíîïĩīĭįıÌÍÎÏĨĪĬĮİ", "i" },
        { "ĵĴ", "j" },
        { "ķĸĶ", "k" },
        { "ĺļľŀłĹĻĽĿŁ", "l" },
        { "ñńņňŉŋÑŃŅŇŊ", "n" },
        { "òóôõōŏőÒÓÔÕŌŎŐ", "o" },
        { "öøœÖØŒ", "oe" },
        { "ŕŗřŔŖŘ", "r" },
        { "śŝşšŚŜŞŠ", "s" },
        { "ß", "ss" },
        { "ţťŧŢŤŦ", "t" },
        { "þÞ", "th" },
        { "ùúûũūŭůűųÙÚÛŨŪŬŮŰŲ", "u" },
        { "üÜ", "ue" },
        { "ŵŴ", "w" },
        { "ýÿŷÝŶŸ", "y" },
        { "źżžŹŻŽ", "z" },
};

static const char *signup_fold(const char *letter)
{
        for (size_t i = 0; i < ARRAY_SIZE(FOLDED); i++)
                for (const char *p = FOLDED[i][0]; *p; p += 2) /* each takes two bytes */
                        if (p[0] == letter[0] && p[1] == letter[1])
                                return FOLDED[i][1];
        return NULL;
}

static size_t signup_add_folded(char *slug, size_t length, const char *ascii)
{
        for (; *ascii && length < SLUG_MOST; ascii++)
                slug[length++] = *ascii;
        return length;
}

/* Letters and digits stay, Latin letters lose their marks, everything else becomes one hyphen. If too little is left (a
 * name in another script), it is "tenant". */
static void signup_slug_of(const char *company, char slug[SLUG_MOST + 1])
{
        size_t length = 0;

        for (; *company && length < SLUG_MOST; company++) {
                const char *ascii = (unsigned char)*company >= 0xc0 ? signup_fold(company) : NULL;

                if (isalnum((unsigned char)*company) && (unsigned char)*company < 0x80)
                        slug[length++] = (char)tolower((unsigned char)*company);
                else if (ascii != NULL)
                        length = signup_add_folded(slug, length, ascii), company++;
                else if (length > 0 && slug[length - 1] != '-')
                        slug[length++] = '-';
        }
        while (length > 0 && slug[length - 1] == '-')
                length--;
        slug[length] = '\0';
        if (length < 3)
                strcpy(slug, "tenant");
}

int signup_normalize(json_t *data, struct err *err)
{
        char slug[SLUG_MOST + 1];
        auto_free char *email = NULL;

        (void)err;
        if (mail_address_read("email", json_text(data, "email"), &email, NULL) == 0) /* checked by the contract */
                json_set_text(data, "email", email);
        signup_slug_of(json_text(data, "company"), slug);
        json_set_text(data, "slug", slug);
        return 0;
}
