-- What comes in at the back door: suppliers, the orders sent to them, and the receipts that turn deliveries into batches on the shelf.

-- migrate:up

create table suppliers (
    id                 bigint generated always as identity primary key,
    name               text not null,
    contact_name       text,
    email              text,
    phone              text,
    tax_number         text,
    payment_terms_days integer not null default 30,
    is_active          boolean not null default true,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),

    constraint suppliers_name_is_given check (btrim(name) <> ''),
    constraint suppliers_payment_terms_are_credible check (payment_terms_days between 0 and 365)
);

create unique index suppliers_name_is_unique on suppliers (lower(name));

create trigger suppliers_set_updated_at
    before update on suppliers
    for each row
    execute function set_updated_at();

create table purchase_orders (
    id           bigint generated always as identity primary key,
    branch_id    bigint not null references branches (id),
    supplier_id  bigint not null references suppliers (id),
    order_number text not null,
    status       text not null default 'draft',
    ordered_by   bigint references users (id),
    ordered_at   timestamptz,
    expected_on  date,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),

    constraint purchase_orders_order_number_is_unique unique (branch_id, order_number),
    -- Lets a receipt prove that it belongs to an order of the same supplier and branch.
    constraint purchase_orders_identity unique (id, supplier_id, branch_id),
    constraint purchase_orders_status_is_known check (status in ('draft', 'ordered', 'closed', 'cancelled')),
    constraint purchase_orders_ordered_have_a_time check (status not in ('ordered', 'closed') or ordered_at is not null)
);

create index purchase_orders_by_supplier on purchase_orders (supplier_id);
create index purchase_orders_by_orderer on purchase_orders (ordered_by);
create index purchase_orders_open_by_date on purchase_orders (expected_on) where status = 'ordered';

create trigger purchase_orders_set_updated_at
    before update on purchase_orders
    for each row
    execute function set_updated_at();

create table purchase_order_lines (
    id                bigint generated always as identity primary key,
    purchase_order_id bigint not null references purchase_orders (id) on delete cascade,
    line_number       integer not null,
    product_id        bigint not null,
    unit_code         text not null,
    quantity          numeric(12, 3) not null,
    unit_cost         numeric(12, 2) not null,

    foreign key (product_id, unit_code) references product_units (product_id, unit_code),
    constraint purchase_order_lines_are_numbered_once unique (purchase_order_id, line_number),
    -- Lets a delivered line prove that it is the same goods in the same pack, of the order its receipt names.
    constraint purchase_order_lines_identity unique (id, purchase_order_id, product_id, unit_code),
    constraint purchase_order_lines_number_is_positive check (line_number > 0),
    constraint purchase_order_lines_quantity_is_positive check (quantity > 0),
    constraint purchase_order_lines_unit_cost_is_not_negative check (unit_cost >= 0)
);

create index purchase_order_lines_by_product on purchase_order_lines (product_id, unit_code);

-- Goods may arrive without an order; then the receipt names only the supplier.
create table goods_receipts (
    id                bigint generated always as identity primary key,
    branch_id         bigint not null references branches (id),
    supplier_id       bigint not null references suppliers (id),
    purchase_order_id bigint,
    invoice_number    text,
    received_by       bigint references users (id),
    received_at       timestamptz not null default now(),

    foreign key (purchase_order_id, supplier_id, branch_id) references purchase_orders (id, supplier_id, branch_id),
    -- A delivery typed in twice would double the stock.
    constraint goods_receipts_invoice_number_is_unique unique (supplier_id, invoice_number)
);

create index goods_receipts_by_order on goods_receipts (purchase_order_id);
create index goods_receipts_by_time on goods_receipts (branch_id, received_at);
create index goods_receipts_by_receiver on goods_receipts (received_by);

-- batch_id is found or made by a trigger: whoever unpacks the box types the number and the date that are printed on it.
create table goods_receipt_lines (
    id                     bigint generated always as identity primary key,
    goods_receipt_id       bigint not null references goods_receipts (id),
    line_number            integer not null,
    purchase_order_id      bigint,
    purchase_order_line_id bigint,
    product_id             bigint not null,
    unit_code              text not null,
    batch_number           text not null,
    expires_on             date not null,
    quantity               numeric(12, 3) not null,
    unit_cost              numeric(12, 2) not null,
    batch_id               bigint not null references stock_batches (id),

    foreign key (product_id, unit_code) references product_units (product_id, unit_code),
    foreign key (purchase_order_line_id, purchase_order_id, product_id, unit_code)
        references purchase_order_lines (id, purchase_order_id, product_id, unit_code),
    constraint goods_receipt_lines_are_numbered_once unique (goods_receipt_id, line_number),
    constraint goods_receipt_lines_number_is_positive check (line_number > 0),
    constraint goods_receipt_lines_quantity_is_positive check (quantity > 0),
    constraint goods_receipt_lines_unit_cost_is_not_negative check (unit_cost >= 0)
);

create index goods_receipt_lines_by_order_line on goods_receipt_lines (purchase_order_line_id);
create index goods_receipt_lines_by_product on goods_receipt_lines (product_id, unit_code);
create index goods_receipt_lines_by_batch on goods_receipt_lines (batch_id);

alter table stock_movements
    add column goods_receipt_line_id bigint references goods_receipt_lines (id),
    add constraint stock_movements_receipt_line_fits_kind check (goods_receipt_line_id is null or kind = 'receipt');

create unique index stock_movements_once_per_receipt_line on stock_movements (goods_receipt_line_id);

-- A batch that comes in twice keeps one row, at the average cost of what is left and what has come.
create function find_batch_of_receipt_line()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
declare
    receipt goods_receipts;
    pack_factor numeric;
begin
    select *
    into receipt
    from goods_receipts
    where id = new.goods_receipt_id;

    select factor
    into pack_factor
    from product_units
    where product_id = new.product_id
        and unit_code = new.unit_code;

    if receipt.id is null or pack_factor is null then
        raise exception 'line % names a receipt or a pack that does not exist', new.line_number
            using errcode = 'foreign_key_violation';
    end if;

    new.purchase_order_id := receipt.purchase_order_id;

    if new.purchase_order_line_id is not null and new.purchase_order_id is null then
        raise exception 'line % names an order line, but its receipt has no order', new.line_number
            using errcode = 'foreign_key_violation';
    end if;

    insert into stock_batches as s (branch_id, product_id, batch_number, expires_on, unit_cost)
    values (receipt.branch_id, new.product_id, new.batch_number, new.expires_on, new.unit_cost / pack_factor)
    on conflict (branch_id, product_id, batch_number, expires_on) do update
    set unit_cost = (s.quantity_on_hand * s.unit_cost + new.quantity * new.unit_cost)
        / (s.quantity_on_hand + new.quantity * pack_factor)
    returning s.id
    into new.batch_id;

    return new;
end;
$function$;

create trigger goods_receipt_lines_find_batch
    before insert on goods_receipt_lines
    for each row
    execute function find_batch_of_receipt_line();

create function move_stock_of_receipt_line()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
begin
    insert into stock_movements (batch_id, kind, quantity, moved_by, goods_receipt_line_id)
    select new.batch_id, 'receipt', round(new.quantity * u.factor, 3), r.received_by, new.id
    from goods_receipts r
    cross join product_units u
    where r.id = new.goods_receipt_id
        and u.product_id = new.product_id
        and u.unit_code = new.unit_code;

    return null;
end;
$function$;

create trigger goods_receipt_lines_move_stock
    after insert on goods_receipt_lines
    for each row
    execute function move_stock_of_receipt_line();

create trigger goods_receipt_lines_stay
    before update or delete on goods_receipt_lines
    for each row
    execute function refuse_change_of_ledger();

create view purchase_order_progress
    with (security_invoker = true)
as
select
    o.id as purchase_order_id,
    o.order_number,
    o.status,
    o.expected_on,
    s.name as supplier_name,
    l.line_number,
    l.product_id,
    l.unit_code,
    l.quantity as ordered,
    delivered.quantity as received,
    greatest(l.quantity - delivered.quantity, 0) as outstanding
from purchase_orders o
join suppliers s on s.id = o.supplier_id
join purchase_order_lines l on l.purchase_order_id = o.id
cross join lateral (
    select coalesce(sum(r.quantity), 0) as quantity
    from goods_receipt_lines r
    where r.purchase_order_line_id = l.id
) as delivered;

-- migrate:down

drop view purchase_order_progress;

-- What has been received stays on the shelf: the movements keep their rows and lose only the link to the receipt.
alter table stock_movements
    drop column goods_receipt_line_id;

drop table goods_receipt_lines;

drop table goods_receipts;

drop table purchase_order_lines;

drop table purchase_orders;

drop table suppliers;

drop function move_stock_of_receipt_line();

drop function find_batch_of_receipt_line();
