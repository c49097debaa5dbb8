/* Answers as YAML, for people who read long ones. */
#pragma once

#include "common/base/json.h"

#include <stdio.h>

/* value (borrowed) as a YAML document equivalent to its JSON; ASCII only, so it is safe for a terminal. */
void yaml_print(const json_t *value, FILE *out);
