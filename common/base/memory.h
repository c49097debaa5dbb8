/* Allocation that does not fail: a control plane that is out of memory stops, its supervisor restarts it, and the
 * catalog still knows what was going on. All results are freed by the caller with free(). */
#pragma once

#include "common/base/macros.h"

#include <stdarg.h>
#include <stddef.h>

/* Zeroed memory of count * size bytes. */
void *mem_alloc(size_t count, size_t size);
void *mem_resize(void *p, size_t size);
/* NULL gives NULL. */
char *mem_copy_text(const char *text);
char *mem_copy_bytes(const void *bytes, size_t length); /* adds a closing NUL */
char *mem_printf(const char *format, ...) PRINTF(1, 2);
/* Overwrites with zeros in a way the compiler keeps, then frees. NULL is fine. */
void mem_free_secret(char *text);
void mem_free_secret_pointer(char **text);

#define NEW(type) ((type *)mem_alloc(1, sizeof(type)))
/* auto_secret char *password = ...;  wiped and freed when the scope ends. */
#define auto_secret __attribute__((cleanup(mem_free_secret_pointer)))
