-- A plan shows the SQL of its files as long as that is readable, and an answer: a quarter of a MiB in all.
-- migrate:up
set local check_function_bodies = off;

create or replace function migrator.run_plan(p_run migrator.run) returns jsonb
language sql stable
as $$
    select jsonb_build_object(
        'run_id', (p_run).run_id,
        'target', (p_run).target,
        'files', (select coalesce(jsonb_agg(jsonb_build_object(
                      'version', f.version, 'name', f.name, 'transaction', f.transaction, 'reversible', f.reversible,
                      'findings', f.findings,
                      'sql', case when length(f.sql) <= 16384 and f.so_far <= 262144 then f.sql end) order by f.name collate "C"),
                      '[]')
                  from (select x.*, sum(least(length(x.sql), 16384)) over (order by x.name collate "C") as so_far
                        from file x
                        where x.version = any ((p_run).versions)
                          and not x.rolled_out
                          and x.version in (select files_lacking())) f),
        'waves', (select coalesce(jsonb_agg(w order by w.wave), '[]')
                  from (select wave, count(*) as tenants, count(*) filter (where state = 'current') as current
                        from job where run_id = (p_run).run_id group by wave) w))
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
