/* What went wrong, in one line for people and, with --json, as one object for machines. */
#include "cli/cli.h"
#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdarg.h>
#include <stdio.h>

static json_t *failure; /* the first one of this command; NULL if there is none, or once it is printed */
static bool failure_told, silent;

static void failure_keep(enum exit_code code, const char *message, const json_t *more)
{
        auto_free char *safe = text_safe(message);

        if (!cli_json || failure != NULL || failure_told)
                return;
        failure = json_pack("{s:i, s:s}", "exit_code", code, "message", safe);
        json_object_update_missing(failure, (json_t *)more);
}

PRINTF(3, 0)
static int failure_tell(enum exit_code code, const json_t *more, const char *format, va_list args)
{
        auto_free char *message = NULL;

        if (vasprintf(&message, format, args) < 0)
                abort();
        if (silent)
                return code;
        fprintf(stderr, "tenantry: %s\n", message);
        failure_keep(code, message, more);
        return code;
}

int cli_fail(enum exit_code code, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        failure_tell(code, NULL, format, args);
        va_end(args);
        return code;
}

int cli_fail_with(enum exit_code code, const json_t *more, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        failure_tell(code, more, format, args);
        va_end(args);
        return code;
}

void cli_keep_silent(bool now)
{
        silent = now;
}

int cli_blame(enum exit_code code, const char *message)
{
        json_decref(TAKE_PTR(failure));
        failure_keep(code, message, NULL);
        return code;
}

void cli_print_answer(const json_t *answer)
{
        auto_json *whole = json_copy((json_t *)answer);

        if (failure != NULL)
                json_object_set_new(whole, "error", TAKE_PTR(failure));
        failure_told = true;
        print_json(whole);
}

void cli_print_failure(int code)
{
        auto_json *whole = NULL;

        if (!cli_json || code == EXIT_GOOD || failure_told)
                return;
        if (failure == NULL)
                failure_keep((enum exit_code)code, "it failed", NULL);
        json_object_set_new(failure, "exit_code", json_integer(code));
        whole = json_pack("{s:o}", "error", TAKE_PTR(failure));
        print_json_line(whole);
}

int cli_usage(const char *command, const char *complaint)
{
        return cli_fail(EXIT_USAGE, "%s (see: tenantry %s --help)", complaint, command);
}
