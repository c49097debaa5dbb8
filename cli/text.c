/* Text made safe and measured: see text.h. */
#include "cli/text.h"

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/memory.h"

#include <string.h>
#include <unictype.h>
#include <unistr.h>
#include <uniwidth.h>

#define ELLIPSIS "\u2026"
#define ENCODING "UTF-8" /* the encoding of our output, whatever the locale says */

/* Control characters, line and paragraph separators, and characters that change the direction of writing. */
static bool text_is_harmful(ucs4_t c)
{
        return uc_is_general_category_withtable(c, UC_CATEGORY_MASK_Cc | UC_CATEGORY_MASK_Zl | UC_CATEGORY_MASK_Zp) ||
               uc_is_property_bidi_control(c);
}

char *text_safe_bytes(const void *bytes, size_t length, bool lines)
{
        const uint8_t *p = bytes;
        struct buf out = { 0 };

        for (size_t i = 0; i < length;) {
                ucs4_t c = 0;
                int n = u8_mbtoucr(&c, p + i, length - i);

                if (n > 0 && (!text_is_harmful(c) || (lines && (c == '\n' || c == '\t')))) {
                        buf_add(&out, p + i, (size_t)n);
                        i += (size_t)n;
                        continue;
                }
                for (n = MAX(n, 1); n > 0; n--)
                        buf_printf(&out, "\\x%02x", p[i++]);
        }
        return buf_take(&out);
}

char *text_safe(const char *text)
{
        return text_safe_bytes(text ? text : "", text ? strlen(text) : 0, false);
}

size_t text_width(const char *text)
{
        int width = u8_strwidth((const uint8_t *)text, ENCODING);

        return (size_t)MAX(width, 0);
}

/* A combining character stays with the letter before it. */
char *text_cut(const char *text, int width)
{
        const uint8_t *end = (const uint8_t *)text;
        int taken = 0;

        if (text_width(text) <= (size_t)MAX(width, 0))
                return mem_copy_text(text);
        for (;;) {
                ucs4_t c = 0;
                int n = u8_strmbtouc(&c, end), more = MAX(uc_width(c, ENCODING), 0);

                if (n <= 0 || taken + more > width - 1)
                        break;
                taken += more;
                end += n;
        }
        return mem_printf("%.*s%s", (int)((const char *)end - text), text, width > 0 ? ELLIPSIS : "");
}

char *text_detail(const char *detail)
{
        auto_free char *safe = text_safe(detail);
        bool full = detail != NULL && strlen(detail) == sizeof(((struct err *)NULL)->message) - 1;

        return mem_printf("%s%s", safe, full ? ELLIPSIS : "");
}

char *text_refusal(const char *field, const char *detail)
{
        auto_free char *safe = text_safe(field), *said = text_detail(detail);
        bool named = *safe == '\0' || strcasestr(said, safe) != NULL;

        return mem_printf("%s%s%s", named ? "" : safe, named ? "" : ": ", said);
}

char *text_time(const char *time)
{
        char *safe = text_safe(time ? time : "-");

        if (strlen(safe) > 19 && safe[10] == 'T') {
                safe[10] = ' ';
                safe[19] = '\0';
        }
        return safe;
}
