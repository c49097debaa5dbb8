/* The fence in a tenant's database: see fence.h. */
#include "common/tenant/fence.h"

#include "common/base/memory.h"

char *fence_raise_sql(const char *fence)
{
        return mem_printf("update tenantry.fence set fence = %1$s where fence <= %1$s; if not found then "
                          "raise exception 'a newer activity has this database' using errcode = 'TN409'; end if; ",
                          fence);
}

char *fence_guarded_sql(const char *fence, const char *sql)
{
        auto_free char *raise = fence_raise_sql(fence);

        return mem_printf("begin; set local lock_timeout = '2s'; " /* a tenant can lock the rows of its roles */
                          "do $tenantry$ begin %s end $tenantry$; %s commit;",
                          raise, sql);
}
