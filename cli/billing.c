/* `tenantry billing`: finds the subcommand. */
#include "cli/billing.h"
#include "common/base/buf.h"

#include <string.h>

static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
} SUBCOMMANDS[] = {
        { "show", billing_show },       { "override", billing_override }, { "end-duplicate", billing_end_duplicate },
        { "events", billing_events },   { "replay", billing_replay },     { "held", billing_held },
        { "release", billing_release },
};

static int billing_name_subcommands(void)
{
        auto_buf names = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(SUBCOMMANDS); i++)
                buf_printf(&names, "%s%s", i == 0 ? "" : ", ", SUBCOMMANDS[i].name);
        return cli_fail(EXIT_USAGE, "use `billing` with one of %s (see: tenantry billing --help)", names.data);
}

int run_billing(int argc, char **argv)
{
        for (size_t i = 0; argc >= 2 && i < ARRAY_SIZE(SUBCOMMANDS); i++)
                if (strcmp(argv[1], SUBCOMMANDS[i].name) == 0)
                        return SUBCOMMANDS[i].run(argc, argv);
        return billing_name_subcommands();
}
