-- What lies on the shelves: batches with their expiry dates, and the ledger of movements that is the only way to change them.

-- migrate:up

-- Quantities are in the product's base unit. The balance is kept beside the ledger because the till asks for it all day.
create table stock_batches (
    id               bigint generated always as identity primary key,
    branch_id        bigint not null references branches (id),
    product_id       bigint not null references products (id),
    batch_number     text not null,
    expires_on       date not null,
    unit_cost        numeric(12, 4) not null default 0,
    quantity_on_hand numeric(14, 3) not null default 0,
    created_at       timestamptz not null default now(),

    constraint stock_batches_are_unique unique (branch_id, product_id, batch_number, expires_on),
    -- Lets other tables prove that batch, product and branch belong together.
    constraint stock_batches_identity unique (id, product_id, branch_id),
    constraint stock_batches_batch_number_is_given check (btrim(batch_number) <> ''),
    constraint stock_batches_unit_cost_is_not_negative check (unit_cost >= 0),
    constraint stock_batches_on_hand_is_not_negative check (quantity_on_hand >= 0)
);

create index stock_batches_by_product on stock_batches (product_id);
create index stock_batches_on_hand_by_expiry on stock_batches (expires_on) where quantity_on_hand > 0;

create table stock_movements (
    id       bigint generated always as identity primary key,
    batch_id bigint not null references stock_batches (id),
    kind     text not null,
    quantity numeric(14, 3) not null,
    reason   text,
    moved_by bigint references users (id),
    moved_at timestamptz not null default now(),

    constraint stock_movements_kind_is_known check (
        kind in (
            'opening', 'receipt', 'sale', 'sale_return', 'supplier_return',
            'transfer_in', 'transfer_out', 'write_off', 'adjustment'
        )
    ),
    constraint stock_movements_sign_follows_kind check (
        case
            when kind in ('opening', 'receipt', 'sale_return', 'transfer_in') then quantity > 0
            when kind in ('sale', 'supplier_return', 'transfer_out', 'write_off') then quantity < 0
            else quantity <> 0
        end
    ),
    constraint stock_movements_corrections_have_a_reason check (
        kind not in ('write_off', 'adjustment') or btrim(coalesce(reason, '')) <> ''
    )
);

create index stock_movements_by_batch on stock_movements (batch_id, moved_at);
create index stock_movements_by_time on stock_movements (moved_at);
create index stock_movements_by_mover on stock_movements (moved_by);

-- The row lock of this update puts two sales of the same batch in a queue; the check on the balance refuses the one too many.
create function apply_stock_movement()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
begin
    update stock_batches
    set quantity_on_hand = quantity_on_hand + new.quantity
    where id = new.batch_id;

    return null;
end;
$function$;

create trigger stock_movements_apply
    after insert on stock_movements
    for each row
    execute function apply_stock_movement();

-- For ledgers: a mistake is corrected by another row, never by changing the first.
create function refuse_change_of_ledger()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
begin
    raise exception 'rows of % are never changed or deleted', tg_table_name
        using errcode = 'restrict_violation',
              hint = 'Record a correcting row instead.';
end;
$function$;

create trigger stock_movements_stay
    before update or delete on stock_movements
    for each row
    execute function refuse_change_of_ledger();

create function refuse_direct_stock_change()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
begin
    raise exception 'quantity_on_hand of a batch follows its movements'
        using errcode = 'restrict_violation',
              hint = 'Insert a row into stock_movements instead.';
end;
$function$;

create trigger stock_batches_start_empty
    before insert on stock_batches
    for each row
    when (new.quantity_on_hand <> 0)
    execute function refuse_direct_stock_change();

-- At depth 0 the statement came from a client; the movement trigger above updates from depth 1.
create trigger stock_batches_follow_movements
    before update on stock_batches
    for each row
    when (new.quantity_on_hand <> old.quantity_on_hand and pg_trigger_depth() = 0)
    execute function refuse_direct_stock_change();

-- A batch may be sold up to and including its expiry date, by the calendar of its branch.
create view stock_on_hand
    with (security_invoker = true)
as
select
    s.branch_id,
    b.name as branch_name,
    s.product_id,
    p.sku,
    p.name as product_name,
    sum(s.quantity_on_hand) as on_hand,
    coalesce(sum(s.quantity_on_hand) filter (where s.expires_on >= today.day), 0) as sellable,
    min(s.expires_on) filter (where s.quantity_on_hand > 0 and s.expires_on >= today.day) as next_expiry,
    round(sum(s.quantity_on_hand * s.unit_cost), 2) as value_at_cost,
    p.reorder_level,
    coalesce(sum(s.quantity_on_hand) filter (where s.expires_on >= today.day), 0) <= p.reorder_level as needs_reorder
from stock_batches s
join branches b on b.id = s.branch_id
join products p on p.id = s.product_id
cross join lateral (select (now() at time zone b.time_zone)::date as day) as today
group by
    s.branch_id,
    b.name,
    s.product_id,
    p.sku,
    p.name,
    p.reorder_level;

-- Batches that expire within 90 days; those already expired come first, with negative days, until they are written off.
create view expiring_soon
    with (security_invoker = true)
as
select
    s.id as batch_id,
    s.branch_id,
    b.name as branch_name,
    s.product_id,
    p.sku,
    p.name as product_name,
    s.batch_number,
    s.expires_on,
    s.expires_on - today.day as days_left,
    s.quantity_on_hand,
    round(s.quantity_on_hand * s.unit_cost, 2) as value_at_cost
from stock_batches s
join branches b on b.id = s.branch_id
join products p on p.id = s.product_id
cross join lateral (select (now() at time zone b.time_zone)::date as day) as today
where s.quantity_on_hand > 0
    and s.expires_on <= today.day + 90
order by
    s.expires_on,
    s.id;

-- migrate:down

drop view expiring_soon;

drop view stock_on_hand;

drop table stock_movements;

drop table stock_batches;

drop function refuse_direct_stock_change();

drop function refuse_change_of_ledger();

drop function apply_stock_movement();
