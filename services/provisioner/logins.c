/* The logins of a tenant's product: see logins.h. */
#include "services/provisioner/logins.h"

#include "common/base/memory.h"
#include "common/pg/scram.h"

#include <string.h>

/* On a server shared by many tenants, roles are named after the database; in a separate project they need not be, and
 * with the project's ref appended they would be too long for PostgreSQL. */
static const char *logins_role_stem(const struct activity *activity)
{
        return strcmp(activity->driver->name, "supabase") == 0 ? "tenantry" : activity_database(activity, "name");
}

static const char *logins_role_suffix(const struct activity *activity)
{
        const char *suffix = activity_database(activity, "login_suffix");

        return suffix ? suffix : "";
}

char *logins_group(const struct activity *activity)
{
        return mem_printf("%s_app%s", logins_role_stem(activity), logins_role_suffix(activity));
}

char *logins_name(const struct activity *activity, int64_t rotation)
{
        return mem_printf("%s_app_%c%s", logins_role_stem(activity), rotation % 2 ? 'a' : 'b',
                          logins_role_suffix(activity));
}

char *logins_user(const struct activity *activity, int64_t rotation)
{
        auto_free char *role = logins_name(activity, rotation);
        const char *ref = activity_database(activity, "project_ref");

        if (ref == NULL || strchr(role, '.') != NULL)
                return TAKE_PTR(role);
        return mem_printf("%s.%s", role, ref);
}

/* The dumping login must be able to read what the app itself made, large objects: otherwise a dump would fail, and the
 * tenant could prevent its own archiving. On our servers the first login is created before its owner: see
 * postgres_driver.c. */
static char *logins_let_owner_read(const struct activity *activity, const char *login)
{
        if (strcmp(activity->driver->name, "supabase") == 0)
                return mem_printf("grant \"%s\" to current_user; ", login);
        return mem_printf("if exists (select from pg_roles where rolname = '%1$s_owner') then "
                          "grant \"%2$s\" to \"%1$s_owner\"; end if; ",
                          activity_database(activity, "name"), login);
}

int logins_create_sql(const struct activity *activity, int64_t rotation, bool open, char **ret, struct err *err)
{
        auto_free char *group = logins_group(activity), *login = logins_name(activity, rotation), *verifier = NULL;
        auto_free char *owned = logins_let_owner_read(activity, login);
        auto_secret char *password = NULL;
        int rc = activity_secret(activity, "app_password", (int)rotation, &password, err);

        if (rc < 0)
                return rc;
        verifier = scram_verifier(password);
        *ret = mem_printf(
                "do $tenantry$ begin "
                "if not exists (select from pg_roles where rolname = '%1$s') then create role \"%1$s\"; end if; "
                "if not exists (select from pg_roles where rolname = '%2$s') then create role \"%2$s\"; end if; "
                "alter role \"%2$s\" %3$s connection limit %4$lld password '%5$s'; "
                "grant \"%1$s\" to \"%2$s\"; "
                "%8$s"
                "comment on role \"%1$s\" is 'tenantry %6$s %7$d'; "
                "comment on role \"%2$s\" is 'tenantry %6$s %7$d'; "
                "end $tenantry$;",
                group, login, open ? "login" : "nologin", (long long)activity->provisioner->config->app_connections,
                verifier, activity_tenant(activity, "tenant_id"), activity_generation(activity), owned);
        return 0;
}

char *logins_rights_sql(const struct activity *activity)
{
        auto_free char *group = logins_group(activity);

        return mem_printf(
                "do $x$ begin execute format('grant connect, temporary on database %%I to %%I', current_database(), "
                "'%1$s'); end $x$;"
                "revoke create on schema public from public;"
                "grant usage on schema public to \"%1$s\";"
                "revoke all on public.schema_migrations from \"%1$s\";"
                "alter table public.schema_migrations enable row level security;"
                /* Supabase's Data API: its roles get rights on everything created in public. */
                "do $x$ declare r name; begin for r in select rolname from pg_roles where rolname in "
                "('anon', 'authenticated', 'service_role') loop "
                "execute format('revoke all on public.schema_migrations from %%I', r); end loop; end $x$;"
                "alter default privileges in schema public "
                "grant select, insert, update, delete on tables to \"%1$s\";"
                "alter default privileges in schema public grant usage, select on sequences to \"%1$s\";"
                /* Tables created without those: a migration that drops and recreates the schema public removes them. If
                 * a migration grants or revokes anything on a table, its rights are left as they are. */
                "do $x$ declare r record; begin for r in select oid::regclass as name, relkind from pg_class "
                "where relnamespace = to_regnamespace('public') and relkind in ('r', 'p', 'v', 'm', 'f', 'S') "
                "and relacl is null and pg_has_role(relowner, 'usage') and relname <> 'schema_migrations' loop "
                "execute format(case r.relkind when 'S' then 'grant usage, select on sequence %%s to %%I' "
                "else 'grant select, insert, update, delete on %%s to %%I' end, r.name, '%1$s'); "
                "end loop; end $x$;",
                group);
}

char *logins_access_sql(const struct activity *activity, bool open)
{
        int64_t rotation = activity_number(activity, "rotation_applied");
        auto_free char *current = logins_name(activity, rotation), *other = logins_name(activity, rotation + 1);

        if (open)
                return mem_printf("alter role \"%s\" login;", current);
        return mem_printf(
                "alter role \"%1$s\" nologin; do $x$ begin if exists (select from pg_roles where rolname = '%2$s') "
                "then alter role \"%2$s\" nologin; end if; end $x$;",
                current, other);
}

char *logins_end_sessions_sql(const char *a, const char *b)
{
        return mem_printf("do $x$ declare r name; begin "
                          "for r in select rolname from pg_roles where rolname in ('%1$s', '%2$s') loop "
                          "execute format('grant %%I to %%I', r, current_user); end loop; end $x$;"
                          "select pg_terminate_backend(pid) from pg_stat_activity "
                          "where usename in ('%1$s', '%2$s') and datname = current_database();",
                          a, b);
}

char *logins_retire_sql(const struct activity *activity)
{
        auto_free char *old = logins_name(activity, activity_number(activity, "rotation_applied") - 1);

        return mem_printf("do $x$ begin if exists (select from pg_roles where rolname = '%1$s') then "
                          "alter role \"%1$s\" nologin password null; end if; end $x$;",
                          old);
}
