-- Of each message that was taken, its bytes came along in case they had to be kept: half of what was sent to the catalog, nearly
-- always for nothing. They come with what is refused; where the catalog itself finds a fault, it asks for them.
-- migrate:up
set local check_function_bodies = off;

-- One message that stands where the partition's reader should be. Returns
--   new        it was taken
--   duplicate  taken before: skipped
--   conflict   another event was taken under this id: a dead letter. If the message came without its bytes, TN428 asks for it again
--              with them
--   dead, parked, passed: by the verdict
create or replace function durable.take_one(p jsonb) returns text
language plpgsql
as $$
declare
    v_message jsonb := p -> 'message';
    v_event jsonb := p -> 'event';
    v_verdict text := p ->> 'verdict';
    v_hash text;
begin
    if v_verdict = 'nothing' then
        return 'passed';
    end if;
    if v_verdict = 'dead' then
        perform durable.put_dead_letter(v_message, p ->> 'code', p ->> 'field', p ->> 'detail');
        -- Another event's operation is not ours to end, though a broken message bears its id.
        if v_event ->> 'id' is not null
            and not exists (select from catalog.operation where operation_id = catalog.read_uuid(v_event ->> 'id')) then
            perform durable.refuse(v_event, null, 'unknown', p ->> 'code', p ->> 'field', p ->> 'detail');
        else
            perform catalog.record_rejection(v_event, p ->> 'code', p ->> 'field', p ->> 'detail');
        end if;
        perform catalog.raise_alert('dead-letters:' || current_schema(), null, 'messages were refused',
            'see: tenantry dlq list');
        return 'dead';
    end if;

    insert into inbox (source, event_id, body_hash)
    values (v_event ->> 'source', v_event ->> 'id', v_event ->> 'body_hash')
    on conflict do nothing;
    if not found then
        select body_hash into v_hash
        from inbox
        where source = v_event ->> 'source'
          and event_id = v_event ->> 'id';
        if v_hash = v_event ->> 'body_hash' then
            return 'duplicate';
        end if;
        if not v_message ? 'value' then
            raise exception 'another event has this id: the message is wanted with its bytes' using errcode = 'TN428';
        end if;
        perform durable.put_dead_letter(v_message, 'event_id_conflict', 'id',
            'another event was taken under this id before');
        perform catalog.record_rejection(v_event, 'event_id_conflict', 'id',
            'another event was taken under this id before');
        return 'conflict';
    end if;
    if v_verdict = 'park' then
        insert into parked (service, reason, event, data)
        values (current_schema(), 'type_unknown', v_event, p -> 'data');
        return 'parked';
    end if;
    perform accept_event(v_event, p -> 'data');
    return 'new';
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
