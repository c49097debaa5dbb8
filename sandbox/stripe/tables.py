"""The tables in which the room keeps every object as a document, what is due when, and what is to be delivered."""

SCHEMA = """
create table if not exists stripe_object (
    id       text primary key,
    seq      bigint generated always as identity,
    kind     text not null,
    document jsonb not null,
    gone     boolean not null default false
);

create index if not exists stripe_object_kind on stripe_object (kind, seq);
-- Events are many and large, and are never looked for by what is in them.
create index if not exists stripe_object_fields
    on stripe_object using gin (document jsonb_path_ops)
    where kind <> 'event';

create table if not exists stripe_due (
    object_id text not null references stripe_object,
    what      text not null,
    at        bigint not null,
    -- The test clock by which it is due; empty: the sandbox's.
    clock     text not null,
    primary key (object_id, what)
);

create index if not exists stripe_due_at on stripe_due (clock, at);

create table if not exists stripe_idempotency (
    key     text primary key,
    at      bigint not null,
    request text not null,
    status  integer not null,
    body    text not null
);

create table if not exists stripe_delivery (
    id          bigint generated always as identity primary key,
    event_id    text not null references stripe_object,
    endpoint_id text not null references stripe_object,
    first_at    bigint not null,
    next_at     bigint,
    attempts    integer not null default 0,
    delayed     boolean not null default false,
    status      integer,
    error       text
);

create index if not exists stripe_delivery_next on stripe_delivery (next_at) where next_at is not null;
"""

# What a reset empties.
TABLES = ("stripe_object", "stripe_due", "stripe_idempotency", "stripe_delivery")
