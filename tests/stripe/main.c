/* What billing makes of Stripe's events: reads one event a line, prints what the catalog would be given, or {"error"}.
 */
#include "common/contracts/stripe_event.h"

#include "common/base/macros.h"

#include <stdio.h>
#include <stdlib.h>

int main(void)
{
        auto_free char *line = NULL;
        size_t room = 0;
        ssize_t length;

        while ((length = getline(&line, &room, stdin)) > 0) {
                auto_json *event = NULL, *read = NULL;
                auto_free char *text = NULL;
                struct err err;

                if (json_parse(line, (size_t)length, &event, &err) < 0 || stripe_event_read(event, &read, &err) < 0)
                        read = json_pack("{s:s}", "error", err.message);
                text = json_print(read);
                puts(text);
        }
        return 0;
}
