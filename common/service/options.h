/* The options all services have. */
#pragma once

#include "common/base/config.h"

extern const struct config_table SERVICE_OPTIONS;
