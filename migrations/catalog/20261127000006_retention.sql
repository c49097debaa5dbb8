-- Forgetting in pieces, for any service: each call ends in time and says how much it took away, so that the janitor knows
-- whether more is left. What is compared with a column is statement_timestamp(), for no index serves a volatile one.
-- migrate:up
set local check_function_bodies = off;

-- Kafka keeps events for a week, so an inbox of a month recognizes every duplicate.
drop function provisioner.prune;
create function durable.prune() returns bigint
language plpgsql
as $$
declare
    c_piece constant int := 5000;
    v_count bigint;
    v_all bigint := 0;
begin
    delete from inbox
    where ctid = any (array(select ctid from inbox where taken_at < statement_timestamp() - interval '30 days' limit c_piece));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    delete from saga
    where saga_id = any (array(select saga_id from saga
                               where finished_at < statement_timestamp() - interval '400 days'
                                 and status <> 'attention' -- a retry goes on with it
                               limit c_piece));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    delete from dead_letter
    where id = any (array(select id from dead_letter
                          where service = current_schema()
                            and published
                            and at < statement_timestamp() - interval '30 days'
                          limit c_piece));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    -- Nobody signed up for it in a month: whoever asked is told.
    with gone as (
        delete from parked
        where id = any (array(select id from parked
                              where service = current_schema()
                                and at < statement_timestamp() - interval '30 days'
                              limit c_piece))
        returning reason, event
    ), told as (
        update catalog.operation o
        set state = 'rejected', code = 'tenant_unknown', detail = 'no tenant of this id signed up',
            finished_at = clock_timestamp()
        from gone
        where gone.reason = 'tenant_unknown'
          and o.operation_id = catalog.read_uuid(gone.event ->> 'id')
          and o.service = current_schema()
          and o.state = 'accepted'
    )
    select count(*) into v_count from gone;
    v_all := v_all + v_count;

    return v_all + catalog.prune_shared(c_piece);
end
$$;

create function catalog.prune_shared(p_piece int) returns bigint
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v_count bigint;
    v_all bigint := 0;
begin
    delete from tenant_event
    where ctid = any (array(select ctid from tenant_event
                            where published and at < statement_timestamp() - interval '400 days' limit p_piece));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    delete from operation
    where operation_id = any (array(select operation_id from operation
                                    where finished_at < statement_timestamp() - interval '90 days' limit p_piece));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    update alert
    set resolved_at = clock_timestamp()
    where resolved_at is null
      and cause like 'dead-letters:%'
      and last_at < statement_timestamp() - interval '1 day';
    delete from alert
    where alert_id = any (array(select alert_id from alert
                                where resolved_at < statement_timestamp() - interval '90 days' limit p_piece));
    get diagnostics v_count = row_count;
    return v_all + v_count;
end
$$;

create index alert_age on catalog.alert (resolved_at) where resolved_at is not null;
revoke execute on function catalog.prune_shared from public;
grant execute on function catalog.prune_shared to tenantry_provisioner, tenantry_migrator, tenantry_billing;
grant execute on function durable.prune to tenantry_provisioner, tenantry_migrator, tenantry_billing;
drop function catalog.prune;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
