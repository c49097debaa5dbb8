/* Answers as YAML, for people who read long ones. */
#pragma once

#include "common/base/json.h"

#include <stdio.h>

/* value (borrowed) as a YAML document that says the same as its JSON; ASCII only, so that a terminal may have it. */
void yaml_print(const json_t *value, FILE *out);
