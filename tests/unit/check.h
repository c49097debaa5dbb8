/* What the unit tests share: cmocka, scratch files, and comparing errors. */
#pragma once

#include "common/base/err.h"
#include "common/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* After the four above, as cmocka demands. */
#include <cmocka.h>

#define assert_contains(text, part)                                                                                    \
        do {                                                                                                           \
                if (strstr((text), (part)) == NULL)                                                                    \
                        fail_msg("\"%s\" is not in \"%s\"", (part), (text));                                           \
        } while (0)
#define assert_lacks(text, part)                                                                                       \
        do {                                                                                                           \
                if (strstr((text), (part)) != NULL)                                                                    \
                        fail_msg("\"%s\" is in \"%s\"", (part), (text));                                               \
        } while (0)
#define SENTENCE(test) cmocka_unit_test(test)

/* A new file with these bytes; the caller unlinks it and frees the path. */
static inline char *scratch_file(const void *bytes, size_t length)
{
        const char *directory = getenv("TMPDIR");
        char *path = mem_printf("%s/tenantry-unit-XXXXXX", directory ? directory : "/tmp");
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, bytes, length), (ssize_t)length);
        close(fd);
        return path;
}

static inline char *scratch_text(const char *text)
{
        return scratch_file(text, strlen(text));
}

static inline void remove_scratch(char *path)
{
        unlink(path);
        free(path);
}
