/* One look into a tenant's database: see inspection.h. */
#include "services/migrator/inspection.h"

#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/pg/pg_json.h"
#include "common/tenant/identity.h"

#include <string.h>

#define CONNECT_TIMEOUT SECONDS(10)
#define TIMEOUT         SECONDS(20)
#define URGENT_CONNECT  SECONDS(3) /* all others of the wave wait for a tenant that does not answer */
#define URGENT_TIMEOUT  SECONDS(10)
#define VERSIONS_MOST   (512L * 1024) /* bytes of JSON: more than all the files that there may be, less than an event */

/* A tenant may put functions of its own in the way of ours, and hold locks that reading a definition waits for. */
static const char BEGIN[] = "begin read only; set local search_path = pg_catalog; set local lock_timeout = '2s'; "
                            "set local statement_timeout = '15s'; ";

/* An index that is being built is not valid yet. The ledger is the tenant's, and may be a view by now, of any length: a
 * version has fifty digits at most, and there are ten thousand files at most. */
static const char LOOK[] =
        "select i.tenant_id, i.generation, current_setting('server_version_num')::int / 10000 as server_major, "
        "(select coalesce(json_agg(version order by version collate \"C\"), '[]') "
        "from (select left(version::text, 51) as version from public.schema_migrations where version is not null "
        "limit 10001) v) as versions, "
        "(select coalesce(json_agg(name order by name), '[]') from ("
        "select format('%I.%I', n.nspname, c.relname) as name "
        "from pg_index x join pg_class c on c.oid = x.indexrelid join pg_namespace n on n.oid = c.relnamespace "
        "where not x.indisvalid and c.relkind = 'i' and not exists ("
        "select from pg_stat_progress_create_index p join pg_locks l on l.pid = p.pid and l.relation = x.indrelid "
        "where p.datname = current_database()) order by x.indexrelid limit 100) x) as invalid_indexes, "
        "(select json_build_object('commits', xact_commit, 'rollbacks', xact_rollback, 'deadlocks', deadlocks) "
        "from pg_stat_database where datname = current_database()) as counters, "
        "s.digest, s.objects from (" IDENTITY_QUERY ") i left join (";

static const char NO_SCHEMA[] = "select null as digest, null as objects";

/* Whatever a file can make, but for rights and owners, which are each tenant's own; not what extensions bring, nor the
 * schemas that belong to somebody else (a provider). The order of columns does not count. An aggregate is known by its
 * name only. */
static const char SCHEMA[] =
        "with mine as ("
        "select n.oid, n.nspname from pg_namespace n "
        "where n.nspname !~ '^pg_' and n.nspname not in ('tenantry', 'information_schema') "
        "and n.nspowner in (select oid from pg_roles where rolname in (current_user, 'pg_database_owner') "
        "union select datdba from pg_database where datname = current_database())"
        "), foreign_to_us as ("
        "select classid, objid from pg_depend where deptype = 'e'"
        "), relations as ("
        "select c.*, n.nspname from pg_class c join mine n on n.oid = c.relnamespace "
        "where (n.nspname, c.relname) <> ('public', 'schema_migrations') and c.relkind in ('r', 'p', 'v', 'm', 'f', "
        "'c') "
        "and not exists (select from foreign_to_us x where x.classid = 'pg_class'::regclass and x.objid = c.oid)"
        "), objects (name, definition) as ("
        "select format('schema %I', nspname), '' from mine "
        "union all "
        "select format('%s %I.%I', case relkind when 'v' then 'view' when 'm' then 'materialized view' "
        "when 'f' then 'foreign table' when 'c' then 'type' else 'table' end, nspname, relname), "
        "concat_ws('|', relkind, relpersistence, relrowsecurity, relforcerowsecurity, "
        "case when relkind = 'p' then pg_get_partkeydef(oid) end, pg_get_expr(relpartbound, oid), "
        "case when relkind in ('v', 'm') then pg_get_viewdef(oid) end, "
        "(select string_agg(inhparent::regclass::text, ',' order by inhseqno) from pg_inherits where inhrelid = "
        "r.oid)) "
        "from relations r "
        "union all "
        "select format('column %I.%I.%I', r.nspname, r.relname, a.attname), "
        "concat_ws('|', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, "
        "(select o.collname from pg_collation o where o.oid = a.attcollation), pg_get_expr(d.adbin, d.adrelid)) "
        "from relations r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped "
        "left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum "
        "where r.relkind not in ('v', 'm') "
        "union all "
        "select format('index %I.%I', r.nspname, c.relname), concat_ws('|', pg_get_indexdef(x.indexrelid), "
        "x.indisvalid) "
        "from relations r join pg_index x on x.indrelid = r.oid join pg_class c on c.oid = x.indexrelid "
        "union all "
        "select format('constraint %I.%I.%I', r.nspname, r.relname, c.conname), "
        "concat_ws('|', pg_get_constraintdef(c.oid), c.convalidated) "
        "from relations r join pg_constraint c on c.conrelid = r.oid and c.contype not in ('n', 't') "
        "union all "
        "select format('trigger %I.%I.%I', r.nspname, r.relname, t.tgname), "
        "concat_ws('|', pg_get_triggerdef(t.oid), t.tgenabled) "
        "from relations r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal "
        "union all "
        "select format('policy %I.%I.%I', r.nspname, r.relname, p.polname), concat_ws('|', p.polcmd, p.polpermissive, "
        "pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) "
        "from relations r join pg_policy p on p.polrelid = r.oid "
        "union all "
        "select format('sequence %I.%I', n.nspname, c.relname), concat_ws('|', format_type(q.seqtypid, null), "
        "q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcycle) "
        "from mine n join pg_class c on c.relnamespace = n.oid join pg_sequence q on q.seqrelid = c.oid "
        "where not exists (select from foreign_to_us x where x.classid = 'pg_class'::regclass and x.objid = c.oid) "
        "union all "
        "select format('function %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), "
        "case when p.prokind = 'a' then '' else pg_get_functiondef(p.oid) end "
        "from mine n join pg_proc p on p.pronamespace = n.oid "
        "where not exists (select from foreign_to_us x where x.classid = 'pg_proc'::regclass and x.objid = p.oid) "
        "union all "
        "select format('type %I.%I', n.nspname, t.typname), concat_ws('|', t.typtype, "
        "(select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid), "
        "case when t.typtype = 'd' then concat_ws('|', format_type(t.typbasetype, t.typtypmod), t.typnotnull, "
        "t.typdefault, "
        "(select string_agg(pg_get_constraintdef(c.oid), ',' order by c.conname) from pg_constraint c "
        "where c.contypid = t.oid and c.contype <> 'n')) end) "
        "from mine n join pg_type t on t.typnamespace = n.oid and t.typtype in ('e', 'd', 'r') "
        "where not exists (select from foreign_to_us x where x.classid = 'pg_type'::regclass and x.objid = t.oid)"
        "), hashed as (select name, md5(definition) as hash from objects), "
        "all_of_them as (select md5(string_agg(name || ' ' || hash, E'\\n' order by name collate \"C\")) as digest, "
        "case when count(*) <= 5000 and sum(length(name)) <= 1000000 then json_object_agg(name, hash order by name "
        "collate \"C\") end as objects from "
        "hashed) ";

struct inspection *inspection_new(struct inspector *inspector, struct migrator *migrator, const struct pg_rows *rows,
                                  int row)
{
        struct inspection *inspection = NEW(struct inspection);

        inspection->inspector = inspector;
        inspection->migrator = migrator;
        inspection->id = mem_copy_text(pg_text(rows, row, "inspection_id"));
        inspection->tenant = mem_copy_text(pg_text(rows, row, "tenant_id"));
        inspection->urgent = pg_bool(rows, row, "urgent");
        inspection->with_schema = pg_bool(rows, row, "with_schema");
        inspection->known = mem_copy_text(pg_text(rows, row, "known"));
        inspection->login = pg_json(rows, row, "tenant");
        inspection->changed_at = mem_copy_text(pg_text(rows, row, "changed_at"));
        return inspection;
}

void inspection_free(struct inspection *inspection)
{
        pg_close(inspection->conn);
        json_decref(inspection->login);
        free(inspection->changed_at);
        free(inspection->known);
        free(inspection->tenant);
        free(inspection->id);
        free(inspection);
}

static void inspection_end(struct inspection *inspection, json_t *found, const struct err *err)
{
        json_t *result = json_pack("{s:s, s:s?, s:o*}", "inspection_id", inspection->id, "changed_at",
                                   inspection->changed_at, "found", found);

        if (err != NULL)
                json_object_set_new(result, "error", json_of_error(err));
        inspector_ended(inspection->inspector, inspection, result);
}

/* A view in place of the ledger can also set client_encoding: what arrives is no JSON then. */
static int inspection_check(const struct pg_rows *rows, const json_t *found, struct err *err)
{
        if (json_is_array(json_object_get(found, "versions")) &&
            json_is_array(json_object_get(found, "invalid_indexes")) &&
            strlen(pg_text(rows, 0, "versions")) <= VERSIONS_MOST)
                return 0;
        return err_set(err, ERR_PERMANENT, "unreadable",
                       "its ledger, or a name of an index, is in no form that we know, or longer than it can be");
}

/* What it found, once the marker is known to be the tenant's. */
static json_t *inspection_found(const struct inspection *inspection, const struct pg_rows *rows)
{
        json_t *found = json_pack("{s:o, s:o, s:o, s:I}", "versions", pg_json(rows, 0, "versions"), "invalid_indexes",
                                  pg_json(rows, 0, "invalid_indexes"), "counters", pg_json(rows, 0, "counters"),
                                  "server_major", (json_int_t)pg_int(rows, 0, "server_major"));

        if (inspection->with_schema)
                json_object_set_new(found, "schema",
                                    json_pack("{s:s, s:o}", "digest", pg_text(rows, 0, "digest"), "objects",
                                              pg_json(rows, 0, "objects")));
        return found;
}

static void inspection_seen(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct inspection *inspection = context;
        int generation = (int)json_number(inspection->login, "generation", 0);
        auto_json *found = NULL;
        struct err wrong;

        if (err == NULL && identity_check(rows, inspection->tenant, generation, &wrong) < 0)
                err = &wrong;
        if (err == NULL) {
                found = inspection_found(inspection, rows);
                if (inspection_check(rows, found, &wrong) < 0)
                        err = &wrong;
        }
        inspection_end(inspection, err == NULL ? TAKE_PTR(found) : NULL, err);
}

static void inspection_connected(void *context, const struct err *err)
{
        struct inspection *inspection = context;
        auto_free char *known = NULL;
        auto_buf sql = { 0 };

        if (err != NULL) {
                inspection_end(inspection, NULL, err);
                return;
        }
        known = pg_quote_literal(inspection->conn, inspection->known);
        buf_add_text(&sql, BEGIN);
        buf_add_text(&sql, LOOK);
        if (inspection->with_schema)
                buf_printf(&sql,
                           "%sselect digest, case when not %s::jsonb ? digest then objects end as objects from "
                           "all_of_them",
                           SCHEMA, known);
        else
                buf_add_text(&sql, NO_SCHEMA);
        buf_add_text(&sql, ") s on true");
        pg_script(inspection->conn, inspection->urgent ? URGENT_TIMEOUT : TIMEOUT, sql.data, inspection_seen,
                  inspection);
}

void inspection_start(struct inspection *inspection)
{
        struct migrator *migrator = inspection->migrator;
        auto_secret char *keep = NULL;
        auto_free char *application_name = mem_printf("tenantry-inspect-%s", inspection->tenant);
        struct pg_target target = { 0 };
        struct err err;

        inspection->started = true;
        if (tenant_target(&migrator->access, inspection->login, TENANT_OWNER, &target, &keep, &err) < 0) {
                inspection_end(inspection, NULL, &err);
                return;
        }
        target.application_name = application_name;
        target.connect_timeout_ms = inspection->urgent ? URGENT_CONNECT : CONNECT_TIMEOUT;
        inspection->conn = pg_open(&migrator->service->loop, &target, inspection_connected, inspection);
}
