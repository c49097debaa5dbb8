/* Classifies statements, for applying files that run without a transaction. All functions take the bytes of one
 * statement. */
#pragma once

#include "common/base/macros.h"

/* It only changes the session's settings, or begins or ends a transaction: a successor repeats it in its own
 * session. */
bool statement_is_of_session(const char *statement, size_t length);
/* It begins a transaction. */
bool statement_is_begin(const char *statement, size_t length);
/* PostgreSQL refuses it inside a transaction block. */
bool statement_is_alone(const char *statement, size_t length);
/* It waits for other transactions, even on unrelated tables, and holds nobody up. */
bool statement_is_concurrent(const char *statement, size_t length);
/* "create index concurrently": its index and its table as written, or both NULL (freed by the caller; index alone is
 * NULL if PostgreSQL is to choose its name). */
void statement_index(const char *statement, size_t length, char **ret_index, char **ret_table);
