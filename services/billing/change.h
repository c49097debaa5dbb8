/* What a change of plan is: shared by the change and its preview. */
#pragma once

#include "services/billing/kinds.h"

enum change_way {
        CHANGE_NONE,  /* it has that price */
        CHANGE_NOW,   /* dearer, or from month to year, or in a trial, which costs nothing: at once */
        CHANGE_LATER, /* when the period that is paid ends */
};

/* From data.live and data.price. */
enum change_way change_way(struct saga *saga);
/* The items of the subscription with the wanted price, as Stripe wants them; the caller releases. */
json_t *change_items(struct saga *saga);
/* When a change that costs something now is counted from: as the request says, or this moment. */
int64_t change_date(struct saga *saga);
/* A subscription that is not paid cannot be changed, and one that ends cannot become less: refused, or STEP_DONE. */
enum step_result change_check(struct saga *saga);
