/* What a statement is, to those who apply files that go without a transaction. All take one statement's bytes. */
#pragma once

#include "common/base/macros.h"

/* It changes the session's settings, or begins or ends a transaction, and nothing else: who goes on in another session
 * runs it again. */
bool statement_is_of_session(const char *statement, size_t length);
/* It begins a transaction. */
bool statement_is_begin(const char *statement, size_t length);
/* PostgreSQL refuses it inside a transaction block. */
bool statement_is_alone(const char *statement, size_t length);
/* It waits for the transactions of others, some of them of tables it has nothing to do with, and holds nobody up. */
bool statement_is_concurrent(const char *statement, size_t length);
/* "create index concurrently": its index and its table as they are written, or both NULL (freed by the caller; index
 * alone is NULL where it is left to PostgreSQL). */
void statement_index(const char *statement, size_t length, char **ret_index, char **ret_table);
