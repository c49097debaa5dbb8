/* Small language helpers used everywhere: scoped cleanup, ownership hand-over, sizes, magic numbers. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ARRAY_SIZE(a)         (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(p, t, m) ((t *)(void *)((char *)(p)-offsetof(t, m)))

/* auto_free char *s = ...;  frees s when the scope ends. */
#define auto_free                     __attribute__((cleanup(macros_free_pointer)))
#define PRINTF(fmt_index, args_index) __attribute__((format(printf, fmt_index, args_index)))

/* Takes the value out of a variable and leaves NULL behind: the reader sees who owns it now. */
#define TAKE_PTR(p)                                                                                                    \
        ({                                                                                                             \
                __typeof__(p) taken_ = (p);                                                                            \
                (p) = NULL;                                                                                            \
                taken_;                                                                                                \
        })

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define SECONDS(n) ((int64_t)(n)*1000)
#define MINUTES(n) SECONDS((n)*60)

/* Every object that travels through a void * carries a magic number that is checked on arrival. */
#define CHECK_MAGIC(object, expected)                                                                                  \
        do {                                                                                                           \
                assert((object) != NULL);                                                                              \
                assert((object)->magic == (expected));                                                                 \
        } while (0)

static inline void macros_free_pointer(void *p)
{
        free(*(void **)p);
}
