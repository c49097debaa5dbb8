/* Looks into tenants' databases as the catalog asks: for drift checks, and for the probes of rollouts. */
#pragma once

#include "services/migrator/migrator.h"

struct inspector;
struct inspection;

struct inspector *inspector_new(struct migrator *migrator);
/* NULL is fine. */
void inspector_free(struct inspector *inspector);
/* There may be something to look at. */
void inspector_wake(struct inspector *inspector);
/* Drops what is in hand: others look again. */
void inspector_stop(struct inspector *inspector);
bool inspector_is_idle(const struct inspector *inspector);

/* With its result for the catalog's end_inspections (taken). The inspection is gone. */
void inspector_ended(struct inspector *inspector, struct inspection *inspection, json_t *result);
