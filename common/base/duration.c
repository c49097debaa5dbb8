/* Lengths of time: see duration.h. */
#include "common/base/duration.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int duration_parse(const char *name, const char *text, int64_t *ret_ms, struct err *err)
{
        static const struct {
                const char *unit;
                int64_t ms;
        } units[] = {
                { .unit = "ms", .ms = 1 },      { .unit = "s", .ms = 1000 },     { .unit = "m", .ms = 60000 },
                { .unit = "h", .ms = 3600000 }, { .unit = "d", .ms = 86400000 },
        };
        size_t digits = strspn(text, "0123456789");
        char *end;
        int64_t value;

        errno = 0;
        value = strtoll(strcmp(text, "0") == 0 ? "0ms" : text, &end, 10); /* zero is zero in any unit */
        if (errno == 0 && digits > 0 && value < INT64_MAX / 86400000)
                for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                        if (strcmp(end, units[i].unit) == 0) {
                                *ret_ms = value * units[i].ms;
                                return 0;
                        }
        return err_field(err, name, "%s: \"%.40s\" is not a duration such as 500ms, 30s, 15m, 24h or 14d", name, text);
}
