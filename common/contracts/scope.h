/* What a bearer token may do: the scopes, as they stand in the token file. */
#pragma once

enum scope { SCOPE_NONE = 0, SCOPE_SIGNUP = 1, SCOPE_READ = 2, SCOPE_APP = 4, SCOPE_ADMIN = 8, SCOPE_SIGNAL = 16 };

#define SCOPE_NAMES "signup, read, app, signal, admin"

/* Reads scopes separated by commas, as a token has them: admin includes all but app. Returns 0 and *ret, a set of enum
 * scope, or -1 if a word is none. */
int scope_parse_list(const char *list, unsigned *ret);
