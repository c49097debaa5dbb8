-- What leaves over the counter: a sale is drafted with its lines, paid, and moves stock in the moment it is completed.

-- migrate:up

create table sales (
    id                  bigint generated always as identity primary key,
    branch_id           bigint not null references branches (id),
    receipt_number      text not null,
    status              text not null default 'draft',
    customer_name       text,
    prescription_number text,
    sold_by             bigint references users (id),
    created_at          timestamptz not null default now(),
    completed_at        timestamptz,
    voided_at           timestamptz,

    constraint sales_receipt_number_is_unique unique (branch_id, receipt_number),
    -- Lets the lines prove that they sell from the shelves of the sale's own branch.
    constraint sales_identity unique (id, branch_id),
    constraint sales_status_is_known check (status in ('draft', 'completed', 'voided')),
    constraint sales_completed_have_a_time check (status <> 'completed' or completed_at is not null),
    constraint sales_voided_have_a_time check ((status = 'voided') = (voided_at is not null))
);

create index sales_by_completion on sales (branch_id, completed_at);
create index sales_by_seller on sales (sold_by);

create table sale_lines (
    id          bigint generated always as identity primary key,
    sale_id     bigint not null,
    branch_id   bigint not null,
    line_number integer not null,
    product_id  bigint not null,
    unit_code   text not null,
    batch_id    bigint not null,
    quantity    numeric(12, 3) not null,
    unit_price  numeric(12, 2) not null,
    discount    numeric(12, 2) not null default 0,
    tax_rate    numeric(5, 2) not null default 0,
    net_amount  numeric(14, 2) not null generated always as (round(quantity * unit_price, 2) - discount) stored,
    tax_amount  numeric(14, 2) not null generated always as (
        round((round(quantity * unit_price, 2) - discount) * tax_rate / 100, 2)
    ) stored,

    foreign key (sale_id, branch_id) references sales (id, branch_id) on delete cascade,
    foreign key (product_id, unit_code) references product_units (product_id, unit_code),
    foreign key (batch_id, product_id, branch_id) references stock_batches (id, product_id, branch_id),
    constraint sale_lines_are_numbered_once unique (sale_id, line_number),
    constraint sale_lines_number_is_positive check (line_number > 0),
    constraint sale_lines_quantity_is_positive check (quantity > 0),
    constraint sale_lines_unit_price_is_not_negative check (unit_price >= 0),
    constraint sale_lines_tax_rate_is_a_percentage check (tax_rate between 0 and 100),
    constraint sale_lines_discount_is_within_the_price check (discount between 0 and round(quantity * unit_price, 2))
);

create index sale_lines_by_product on sale_lines (product_id, unit_code);
create index sale_lines_by_batch on sale_lines (batch_id);

-- A refund is a payment below zero. Selling on credit or to an insurer is a method too, so that due is always a difference.
create table sale_payments (
    id          bigint generated always as identity primary key,
    sale_id     bigint not null references sales (id),
    method      text not null,
    amount      numeric(12, 2) not null,
    reference   text,
    received_by bigint references users (id),
    received_at timestamptz not null default now(),

    constraint sale_payments_method_is_known check (method in ('cash', 'card', 'mobile_money', 'insurance', 'credit')),
    constraint sale_payments_amount_is_not_zero check (amount <> 0)
);

create index sale_payments_by_sale on sale_payments (sale_id);
create index sale_payments_by_time on sale_payments (received_at);
create index sale_payments_by_receiver on sale_payments (received_by);

-- The ledger learns which line moved the stock; the index lets one line be sold once and returned once.
alter table stock_movements
    add column sale_line_id bigint references sale_lines (id),
    add constraint stock_movements_sale_line_fits_kind check (sale_line_id is null or kind in ('sale', 'sale_return'));

create unique index stock_movements_once_per_sale_line on stock_movements (sale_line_id, kind);

-- draft -> completed -> voided, or draft -> voided: no other way, because each step moves stock or promises not to.
create function check_sale_status()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
begin
    if tg_op = 'INSERT' then
        if new.status <> 'draft' then
            raise exception 'a sale begins as a draft, not as %', new.status
                using errcode = 'check_violation';
        end if;
        return new;
    end if;

    if new.status = old.status then
        return new;
    end if;

    if new.status = 'completed' and old.status = 'draft' then
        new.completed_at := coalesce(new.completed_at, now());
    elsif new.status = 'voided' then
        new.voided_at := coalesce(new.voided_at, now());
    else
        raise exception 'sale % cannot go from % to %', old.receipt_number, old.status, new.status
            using errcode = 'check_violation';
    end if;

    return new;
end;
$function$;

create trigger sales_check_status
    before insert or update of status on sales
    for each row
    execute function check_sale_status();

-- Batches are moved in the order of their ids, so that two tills with the same goods wait for each other and do not deadlock.
create function move_stock_of_sale()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
declare
    refused text;
begin
    if new.status = 'voided' then
        insert into stock_movements (batch_id, kind, quantity, moved_by, sale_line_id)
        select m.batch_id, 'sale_return', -m.quantity, new.sold_by, m.sale_line_id
        from stock_movements m
        join sale_lines l on l.id = m.sale_line_id
        where l.sale_id = new.id
            and m.kind = 'sale'
        order by m.batch_id;
        return null;
    end if;

    select string_agg(s.batch_number, ', ' order by s.batch_number)
    into refused
    from sale_lines l
    join stock_batches s on s.id = l.batch_id
    join branches b on b.id = s.branch_id
    where l.sale_id = new.id
        and s.expires_on < (now() at time zone b.time_zone)::date;

    if refused is not null then
        raise exception 'sale % holds expired batches: %', new.receipt_number, refused
            using errcode = 'check_violation';
    end if;

    select string_agg(p.name, ', ' order by p.name)
    into refused
    from sale_lines l
    join products p on p.id = l.product_id
    where l.sale_id = new.id
        and p.requires_prescription;

    if refused is not null and new.prescription_number is null then
        raise exception 'sale % needs a prescription number for: %', new.receipt_number, refused
            using errcode = 'check_violation';
    end if;

    insert into stock_movements (batch_id, kind, quantity, moved_by, sale_line_id)
    select l.batch_id, 'sale', -round(l.quantity * u.factor, 3), new.sold_by, l.id
    from sale_lines l
    join product_units u on u.product_id = l.product_id and u.unit_code = l.unit_code
    where l.sale_id = new.id
    order by l.batch_id, l.id;

    if not found then
        raise exception 'sale % has no lines', new.receipt_number
            using errcode = 'check_violation';
    end if;

    return null;
end;
$function$;

create trigger sales_move_stock
    after update of status on sales
    for each row
    when (new.status <> old.status)
    execute function move_stock_of_sale();

-- The share lock makes a late line wait for a completion under way, and then be refused by it.
create function check_sale_is_draft()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
declare
    line sale_lines;
begin
    if tg_op = 'DELETE' then
        line := old;
    else
        line := new;
    end if;

    if tg_op = 'UPDATE' and new.sale_id <> old.sale_id then
        raise exception 'a line stays with its sale'
            using errcode = 'restrict_violation';
    end if;

    perform 1
    from sales
    where id = line.sale_id
        and status = 'draft'
    for share;

    -- A draft that is deleted takes its lines along: then there is no sale to look at, and nothing to refuse.
    if not found and exists (select from sales where id = line.sale_id) then
        raise exception 'only a draft sale can change its lines'
            using errcode = 'restrict_violation',
                  hint = 'Void the sale and make a new one.';
    end if;

    return line;
end;
$function$;

create trigger sale_lines_check_draft
    before insert or update or delete on sale_lines
    for each row
    execute function check_sale_is_draft();

create view sale_totals
    with (security_invoker = true)
as
select
    s.id as sale_id,
    s.branch_id,
    s.receipt_number,
    s.status,
    s.completed_at,
    lines.net,
    lines.tax,
    lines.net + lines.tax as total,
    payments.paid,
    case when s.status = 'voided' then 0 else lines.net + lines.tax end - payments.paid as due
from sales s
cross join lateral (
    select
        coalesce(sum(l.net_amount), 0) as net,
        coalesce(sum(l.tax_amount), 0) as tax
    from sale_lines l
    where l.sale_id = s.id
) as lines
cross join lateral (
    select coalesce(sum(p.amount), 0) as paid
    from sale_payments p
    where p.sale_id = s.id
) as payments;

-- migrate:down

drop view sale_totals;

-- What has been sold stays sold: the movements keep their rows and lose only the link to the line.
alter table stock_movements
    drop column sale_line_id;

drop table sale_payments;

drop table sale_lines;

drop table sales;

drop function check_sale_is_draft();

drop function move_stock_of_sale();

drop function check_sale_status();
