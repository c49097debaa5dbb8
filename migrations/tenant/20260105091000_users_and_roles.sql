-- Who may do what: the people of one pharmacy, known to the login service by a uuid, and the roles they hold in its branches.

-- migrate:up

create table roles (
    code        text primary key,
    name        text not null,
    description text not null default '',

    constraint roles_code_is_lower_case check (code ~ '^[a-z_]{2,30}$')
);

create table role_permissions (
    role_code  text not null references roles (code) on delete cascade,
    permission text not null,

    primary key (role_code, permission),
    constraint role_permissions_are_subject_and_verb check (permission ~ '^[a-z_]+\.[a-z_]+$')
);

-- The login service may live in another schema or another server, so auth_id is a plain uuid and not a foreign key.
-- It is empty for a person who has been invited and has not logged in yet.
create table users (
    id         bigint generated always as identity primary key,
    auth_id    uuid,
    email      text not null,
    full_name  text not null,
    is_active  boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),

    constraint users_auth_id_is_unique unique (auth_id),
    constraint users_email_has_an_at check (email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    constraint users_full_name_is_given check (btrim(full_name) <> '')
);

create unique index users_email_is_unique on users (lower(email));

create trigger users_set_updated_at
    before update on users
    for each row
    execute function set_updated_at();

-- A role without a branch is held in all of them.
create table user_roles (
    id         bigint generated always as identity primary key,
    user_id    bigint not null references users (id) on delete cascade,
    role_code  text not null references roles (code),
    branch_id  bigint references branches (id),
    granted_by bigint references users (id) on delete set null,
    granted_at timestamptz not null default now(),

    constraint user_roles_are_held_once unique nulls not distinct (user_id, role_code, branch_id)
);

create index user_roles_by_role on user_roles (role_code);
create index user_roles_by_branch on user_roles (branch_id);
create index user_roles_by_granter on user_roles (granted_by);

insert into roles (code, name, description)
values
    ('owner', 'Owner', 'Runs the pharmacy: everything, the users and their roles included'),
    ('pharmacist', 'Pharmacist', 'Dispenses, sells, voids sales and corrects stock'),
    ('cashier', 'Cashier', 'Sells and takes payments'),
    ('storekeeper', 'Storekeeper', 'Orders from suppliers, receives goods and counts stock');

insert into role_permissions (role_code, permission)
values
    ('owner', 'users.manage'),
    ('owner', 'branches.manage'),
    ('owner', 'products.manage'),
    ('owner', 'prices.manage'),
    ('owner', 'stock.adjust'),
    ('owner', 'sales.create'),
    ('owner', 'sales.void'),
    ('owner', 'purchases.order'),
    ('owner', 'purchases.receive'),
    ('owner', 'reports.read'),
    ('pharmacist', 'products.manage'),
    ('pharmacist', 'stock.adjust'),
    ('pharmacist', 'sales.create'),
    ('pharmacist', 'sales.dispense'),
    ('pharmacist', 'sales.void'),
    ('pharmacist', 'reports.read'),
    ('cashier', 'sales.create'),
    ('storekeeper', 'stock.adjust'),
    ('storekeeper', 'purchases.order'),
    ('storekeeper', 'purchases.receive');

-- migrate:down

drop table user_roles;

drop table users;

drop table role_permissions;

drop table roles;
