/* Ids of operations: a UUID that carries its own check, so that a gateway can tell an operation that is on its way from
 * an id that was never issued, without remembering anything. */
#pragma once

#include "common/base/id.h"

/* The same caller, route and key always give the same id; key NULL gives a new one. */
struct id operation_id_make(const char *caller, const char *route, const char *key);
bool operation_id_is_ours(const char *text);
