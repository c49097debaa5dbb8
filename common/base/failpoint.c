/* Named places where a test can make the process die, fail or hang: see failpoint.h. */
#include "common/base/failpoint.h"

#include "common/base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum action { ACTION_NONE, ACTION_CRASH, ACTION_ERROR, ACTION_SLEEP, ACTION_STOP };

static struct {
        enum action action;
        long sleep_ms;
        long at_pass;
        long passes;
} armed[FAILPOINT_COUNT];

static const char *const NAMES[] = {
#define FAILPOINT_NAME(name) #name,
        FAILPOINTS(FAILPOINT_NAME)
#undef FAILPOINT_NAME
};

const char *failpoint_name(enum failpoint point)
{
        assert(point < FAILPOINT_COUNT);
        return NAMES[point];
}

static int failpoint_find(const char *name)
{
        for (int i = 0; i < FAILPOINT_COUNT; i++)
                if (strcmp(NAMES[i], name) == 0)
                        return i;
        return -1;
}

/* A whole number not below least, with nothing after it: a misspelt one would never fire. */
static bool failpoint_read_number(const char *text, long least, long *ret)
{
        char *end;

        errno = 0;
        *ret = strtol(text, &end, 10);
        return errno == 0 && isdigit((unsigned char)*text) && *end == '\0' && *ret >= least;
}

static int failpoint_arm_one(char *entry, struct err *err)
{
        char *equals = strchr(entry, '='), *at;
        enum action action;
        long at_pass = 1, sleep_ms = 0;
        int point;

        if (equals == NULL)
                return err_field(err, "FAILPOINTS", "failpoint \"%.60s\" has no action", entry);
        *equals = '\0';
        point = failpoint_find(entry);
        if (point < 0)
                return err_field(err, "FAILPOINTS", "there is no failpoint \"%.60s\"", entry);
        at = strchr(equals + 1, '@');
        if (at != NULL) {
                *at = '\0';
                if (!failpoint_read_number(at + 1, 1, &at_pass))
                        return err_field(err, "FAILPOINTS", "failpoint %s: \"%.40s\" is not a pass, 1 or later", entry,
                                         at + 1);
        }
        if (strcmp(equals + 1, "crash") == 0)
                action = ACTION_CRASH;
        else if (strcmp(equals + 1, "error") == 0)
                action = ACTION_ERROR;
        else if (strcmp(equals + 1, "stop") == 0)
                action = ACTION_STOP;
        else if (strncmp(equals + 1, "sleep:", 6) == 0 && failpoint_read_number(equals + 7, 0, &sleep_ms))
                action = ACTION_SLEEP;
        else
                return err_field(err, "FAILPOINTS", "failpoint %s: unknown action \"%.40s\"", entry, equals + 1);
        armed[point].action = action;
        armed[point].at_pass = at_pass;
        armed[point].sleep_ms = sleep_ms;
        return 0;
}

int failpoint_arm(const char *spec, struct err *err)
{
        auto_free char *copy = mem_copy_text(spec);
        char *rest = copy, *entry;
        int rc = 0;

        while (rc == 0 && rest != NULL && (entry = strsep(&rest, ";")) != NULL)
                if (*entry != '\0')
                        rc = failpoint_arm_one(entry, err);
        return rc;
}

int failpoint_pass(enum failpoint point, struct err *err)
{
        struct timespec pause;

        if (armed[point].action == ACTION_NONE || ++armed[point].passes != armed[point].at_pass)
                return 0;
        switch (armed[point].action) {
        case ACTION_CRASH:
                kill(getpid(), SIGKILL);
                abort(); /* not reached: SIGKILL cannot be held up */
        case ACTION_SLEEP:
                pause = (struct timespec){ .tv_sec = armed[point].sleep_ms / 1000,
                                           .tv_nsec = armed[point].sleep_ms % 1000 * 1000000 };
                nanosleep(&pause, NULL);
                return 0;
        case ACTION_STOP:
                kill(getpid(), SIGSTOP); /* continues here after SIGCONT */
                return 0;
        case ACTION_ERROR:
                return err_set(err, ERR_BUSY, "failpoint", "failpoint %s", failpoint_name(point));
        case ACTION_NONE:
                break;
        }
        return 0;
}
