-- Whoever holds a tenant's claim gives way, whichever service it is of: claim_take tells the claim (way_wanted), and the
-- holder's own service has its saga turn back.
-- migrate:up
set local check_function_bodies = off; -- functions of durable find their tables by the caller's search_path

create index tenant_claim_way_wanted on catalog.tenant_claim (holder) where way_wanted;

-- Sagas of this service that hold what something urgent waits for: they end as if they were cancelled, and are begun again
-- afterwards if they are still wanted then.
create function durable.heed_claims() returns void
language plpgsql
set enable_seqscan = off -- the table may have been empty when the plan was made
as $$
begin
    update saga s
    set cancel_wanted = true, background = false, next_at = least(s.next_at, clock_timestamp())
    from catalog.tenant_claim c
    where c.way_wanted
      and s.saga_id = c.holder
      and s.status || '' = 'running'
      and not s.cancel_wanted;
end
$$;
grant execute on function durable.heed_claims to tenantry_service;

create or replace function durable.saga_claim(
    p_owner text,
    p_kinds text[],
    p_held uuid[],
    p_lease_ms bigint,
    p_limit int,
    p_background int
)
returns table (
    saga_id uuid, tenant_id uuid, kind text, step text, status text, attempt int, crashes int, fence bigint, data jsonb,
    step_age_ms bigint, cancel_wanted boolean, background boolean, error jsonb, context jsonb
)
language sql
as $$
    select heed_claims();
    with prompt as (
        select d.saga_id
        from saga d
        where d.status in ('running', 'undoing')
          and not d.background
          and d.next_at <= statement_timestamp()
          and not d.saga_id = any (p_held)
          and (d.lease_until is null or d.lease_until < clock_timestamp() or d.owner = p_owner)
          and d.kind || '/' || d.step = any (p_kinds)
        order by d.next_at
        limit p_limit
        for update skip locked
    ), patient as (
        select d.saga_id
        from saga d
        where d.status in ('running', 'undoing')
          and d.background
          and d.next_at <= statement_timestamp()
          and not d.saga_id = any (p_held)
          and (d.lease_until is null or d.lease_until < clock_timestamp() or d.owner = p_owner)
          and d.kind || '/' || d.step = any (p_kinds)
        order by d.next_at
        limit greatest(0, least(p_background, p_limit - (select count(*) from prompt)))
        for update skip locked
    )
    update saga s
    set owner = p_owner,
        lease_until = clock_timestamp() + p_lease_ms * interval '1 ms',
        crashes = s.crashes + (s.lease_until is not null and s.owner <> p_owner)::int,
        fence = catalog.next_fence()
    from (select saga_id from prompt union all select saga_id from patient) due
    where s.saga_id = due.saga_id
    returning s.saga_id, s.tenant_id, s.kind, s.step, s.status, s.attempt, s.crashes, s.fence, s.data,
        (extract(epoch from catalog.business_now() - s.step_since) * 1000)::bigint, s.cancel_wanted, s.background, s.error,
        saga_context(s.tenant_id)
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
