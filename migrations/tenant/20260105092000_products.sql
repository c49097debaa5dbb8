-- What the pharmacy sells: products in their categories, the packs each is sold in, the barcode on a pack and its price over time.

-- migrate:up

create table units (
    code text primary key,
    name text not null,

    constraint units_code_is_lower_case check (code ~ '^[a-z_]{1,20}$')
);

insert into units (code, name)
values
    ('tablet', 'Tablet'),
    ('capsule', 'Capsule'),
    ('strip', 'Strip'),
    ('bottle', 'Bottle'),
    ('tube', 'Tube'),
    ('vial', 'Vial'),
    ('sachet', 'Sachet'),
    ('piece', 'Piece'),
    ('box', 'Box'),
    ('carton', 'Carton');

create table product_categories (
    id         bigint generated always as identity primary key,
    parent_id  bigint references product_categories (id),
    name       text not null,
    created_at timestamptz not null default now(),

    constraint product_categories_name_is_unique unique nulls not distinct (parent_id, name),
    constraint product_categories_name_is_given check (btrim(name) <> ''),
    constraint product_categories_are_not_their_own_parent check (parent_id <> id)
);

create table products (
    id                    bigint generated always as identity primary key,
    category_id           bigint references product_categories (id),
    sku                   text not null,
    name                  text not null,
    generic_name          text,
    strength              text,
    manufacturer          text,
    requires_prescription boolean not null default false,
    tax_rate              numeric(5, 2) not null default 0,
    reorder_level         numeric(14, 3) not null default 0,
    is_active             boolean not null default true,
    created_at            timestamptz not null default now(),
    updated_at            timestamptz not null default now(),

    constraint products_sku_is_unique unique (sku),
    constraint products_sku_is_given check (btrim(sku) <> ''),
    constraint products_name_is_given check (btrim(name) <> ''),
    constraint products_tax_rate_is_a_percentage check (tax_rate between 0 and 100),
    constraint products_reorder_level_is_not_negative check (reorder_level >= 0)
);

create index products_by_category on products (category_id);
create index products_by_name_prefix on products (lower(name) text_pattern_ops);
create index products_by_generic_name_prefix on products (lower(generic_name) text_pattern_ops);

create trigger products_set_updated_at
    before update on products
    for each row
    execute function set_updated_at();

-- A product is stocked in its base unit, the one pack with a factor of 1; every other pack is so many of those.
create table product_units (
    product_id bigint not null references products (id) on delete cascade,
    unit_code  text not null references units (code),
    factor     numeric(10, 3) not null default 1,
    barcode    text,

    primary key (product_id, unit_code),
    constraint product_units_barcode_is_unique unique (barcode),
    constraint product_units_barcode_is_digits check (barcode ~ '^[0-9]{8,14}$'),
    constraint product_units_factor_is_at_least_one check (factor >= 1)
);

create unique index product_units_have_one_base on product_units (product_id) where factor = 1;
create index product_units_by_unit on product_units (unit_code);

-- A price holds from its start until the next one starts, so two can never overlap and old ones stay readable.
-- A price without a branch holds in every branch that has none of its own.
create table product_prices (
    id         bigint generated always as identity primary key,
    product_id bigint not null,
    unit_code  text not null,
    branch_id  bigint references branches (id),
    price      numeric(12, 2) not null,
    starts_at  timestamptz not null default now(),
    set_by     bigint references users (id) on delete set null,

    foreign key (product_id, unit_code) references product_units (product_id, unit_code) on delete cascade,
    constraint product_prices_start_once unique nulls not distinct (product_id, unit_code, branch_id, starts_at),
    constraint product_prices_are_not_negative check (price >= 0)
);

create index product_prices_by_branch on product_prices (branch_id);
create index product_prices_by_setter on product_prices (set_by);

create view current_prices
    with (security_invoker = true)
as
select distinct on (b.id, p.product_id, p.unit_code)
    b.id as branch_id,
    p.product_id,
    p.unit_code,
    p.price,
    p.starts_at,
    p.branch_id is not null as is_branch_price
from branches b
join product_prices p on p.branch_id = b.id or p.branch_id is null
where p.starts_at <= now()
order by
    b.id,
    p.product_id,
    p.unit_code,
    p.branch_id nulls last,
    p.starts_at desc;

-- migrate:down

drop view current_prices;

drop table product_prices;

drop table product_units;

drop table products;

drop table product_categories;

drop table units;
