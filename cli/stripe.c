/* `tenantry stripe setup` and `tenantry stripe check`: what is sold, at Stripe. */
#include "cli/stripe.h"

#include "common/base/failpoint.h"

#include <string.h>

/* For tests, as in the services: only with SANDBOX=1. */
static int stripe_arm_failpoints(void)
{
        const char *sandbox = cli_setting("SANDBOX"), *spec = cli_setting("FAILPOINTS");
        struct err err;

        if (spec == NULL)
                return EXIT_GOOD;
        if (sandbox == NULL || strcmp(sandbox, "1") != 0)
                return cli_usage("stripe", "FAILPOINTS needs SANDBOX=1");
        return failpoint_arm(spec, &err) < 0 ? cli_fail(EXIT_USAGE, "%s", err.message) : EXIT_GOOD;
}

static int stripe_run_setup(int argc, char **argv)
{
        const char *url = cli_option(&argc, argv, "endpoint"), *secret_file = cli_option(&argc, argv, "secret-file");
        bool roll = cli_flag(&argc, argv, "roll");
        struct stripe_session session;
        int status;

        if (cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        if (roll && secret_file == NULL)
                return cli_usage("stripe", "--roll needs --secret-file FILE, for the new secret");
        status = stripe_open(&session, url);
        if (status == EXIT_GOOD && session.url == NULL)
                status = cli_usage("stripe", "name the address of the webhook endpoint with --endpoint URL, or set "
                                             "PUBLIC_URL");
        if (status == EXIT_GOOD)
                status = stripe_arm_failpoints();
        if (status == EXIT_GOOD)
                status = stripe_setup(&session, secret_file, roll);
        stripe_close(&session);
        return status;
}

static int stripe_run_check(int argc, char **argv)
{
        const char *url = cli_option(&argc, argv, "endpoint");
        struct stripe_session session;
        int status;

        if (cli_expect(argc, argv, 1) != EXIT_GOOD)
                return EXIT_USAGE;
        status = stripe_open(&session, url);
        if (status == EXIT_GOOD)
                status = stripe_check(&session);
        stripe_close(&session);
        return status;
}

int run_stripe(int argc, char **argv)
{
        if (argc >= 2 && strcmp(argv[1], "setup") == 0)
                return stripe_run_setup(argc, argv);
        if (argc >= 2 && strcmp(argv[1], "check") == 0)
                return stripe_run_check(argc, argv);
        return cli_usage("stripe", "use `stripe setup` or `stripe check`");
}
