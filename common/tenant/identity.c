/* The marker in a tenant's database: see identity.h. */
#include "common/tenant/identity.h"

#include <string.h>

int identity_check(const struct pg_rows *rows, const char *tenant_id, int generation, struct err *err)
{
        /* Whoever owns the database may have made the marker null. */
        if (pg_rows_count(rows) >= 1 && strcmp(pg_text(rows, 0, "tenant_id") ?: "", tenant_id) == 0 &&
            pg_int(rows, 0, "generation") == generation)
                return 0;
        return err_set(err, ERR_PERMANENT, "wrong_identity",
                       "the database reached is not this tenant's: nothing was done to it");
}
