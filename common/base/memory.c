/* Allocation that does not fail: see memory.h. */
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

static void *mem_or_stop(void *p)
{
        if (p == NULL) {
                fputs("{\"level\":\"fatal\",\"message\":\"out of memory\"}\n", stderr);
                abort();
        }
        return p;
}

void *mem_alloc(size_t count, size_t size)
{
        return mem_or_stop(calloc(count ? count : 1, size ? size : 1));
}

void *mem_resize(void *p, size_t size)
{
        return mem_or_stop(realloc(p, size ? size : 1));
}

char *mem_copy_text(const char *text)
{
        return text ? mem_or_stop(strdup(text)) : NULL;
}

char *mem_copy_bytes(const void *bytes, size_t length)
{
        char *copy = mem_alloc(length + 1, 1);

        if (length > 0)
                memcpy(copy, bytes, length);
        return copy;
}

char *mem_printf(const char *format, ...)
{
        va_list args;
        char *text = NULL;

        va_start(args, format);
        if (vasprintf(&text, format, args) < 0)
                text = NULL;
        va_end(args);
        return mem_or_stop(text);
}

void mem_free_secret(char *text)
{
        if (text == NULL)
                return;
        explicit_bzero(text, strlen(text));
        free(text);
}

void mem_free_secret_pointer(char **text)
{
        mem_free_secret(*text);
}
