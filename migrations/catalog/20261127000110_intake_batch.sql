-- Messages are taken many at a time: what has come of a partition goes into the catalog in one statement. A transaction for
-- each cost more than what was done in it.
-- migrate:up
set local check_function_bodies = off; -- functions of durable find inbox and offsets by the caller's search_path

-- One message that stands where the partition's reader should be. Returns
--   new        it was taken
--   duplicate  taken before: skipped
--   conflict   another event was taken under this id: a dead letter
--   dead, parked, passed: by the verdict
create function durable.take_one(p jsonb) returns text
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

-- The one entrance for messages: those of one partition, in their order, each with the offset behind the one before it
-- (previous) and its verdict: event (data is valid by its contract), dead (it is not; code, field, detail say why), park (a
-- type this version does not know), nothing (up to this offset no message is left to be taken). Moves the partition's offset
-- in the same transaction. A row for each message, in order: what take_one says, or
--   seen       this offset was dealt with by another process: skipped
--   behind     the catalog stands before what the reader believes (it was restored): nothing was changed, seek back
-- An offset below the one that was asked for is in a log that began anew (a topic or a cluster made again): offsets are
-- counted from there, and the inbox knows what was taken in the log's former life.
create function durable.take_batch(p_messages jsonb) returns setof text
language plpgsql
as $$
declare
    v_topic text := p_messages #>> '{0,message,topic}';
    v_partition int := (p_messages #>> '{0,message,partition}')::int;
    v_next bigint;
    v_stored bigint;
    v_offset bigint;
    v_previous bigint;
    v jsonb;
begin
    select next_offset into v_next
    from consumer_offset
    where topic = v_topic
      and partition = v_partition
    for update;
    for v in select value from jsonb_array_elements(p_messages) loop
        v_offset := (v #>> '{message,offset}')::bigint;
        v_previous := (v ->> 'previous')::bigint;
        if v_previous >= 0 and coalesce(v_next, -1) < v_previous then
            return next 'behind';
            continue;
        end if;
        if v_offset < v_previous and v_next = v_previous then
            perform catalog.raise_alert('log-began-anew:' || v_topic, null, 'a topic began anew',
                format('%s/%s stands at offset %s where %s was expected: topic or cluster was made again; messages that '
                       'were lost with it must be sent again', v_topic, v_partition, greatest(v_offset, 0), v_previous));
        elsif v_next > v_offset then
            return next 'seen';
            continue;
        end if;
        if (v #>> '{message,log_start}')::bigint > v_next then
            perform durable.raise_expired(v_topic, v_partition, v_next, (v #>> '{message,log_start}')::bigint);
        end if;
        v_next := v_offset + 1;
        if v_stored is null then -- before anything is done: another reader of this partition waits here
            insert into consumer_offset (topic, partition, next_offset)
            values (v_topic, v_partition, v_next)
            on conflict (topic, partition) do update
                set next_offset = excluded.next_offset;
            v_stored := v_next;
        end if;
        return next durable.take_one(v);
    end loop;
    if v_stored <> v_next then
        update consumer_offset
        set next_offset = v_next
        where topic = v_topic
          and partition = v_partition;
    end if;
end
$$;

-- For programs of the release before, which give one at a time.
create or replace function durable.take(
    p_message jsonb,
    p_previous bigint,
    p_verdict text,
    p_event jsonb,
    p_data jsonb,
    p_code text,
    p_field text,
    p_detail text
) returns text
language sql
as $$
    select taken
    from durable.take_batch(jsonb_build_array(jsonb_build_object(
        'message', p_message, 'previous', p_previous, 'verdict', p_verdict, 'event', p_event, 'data', p_data,
        'code', p_code, 'field', p_field, 'detail', p_detail))) taken
$$;
drop function durable.take_message;

grant execute on function durable.take_one, durable.take_batch
    to tenantry_provisioner, tenantry_migrator, tenantry_billing, tenantry_service;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
