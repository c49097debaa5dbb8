-- A pharmacy works from one or more branches; everything that is counted, sold or bought happens in one of them.

-- migrate:up

-- Shared by every table whose rows people edit, so that no client has to remember to do it.
create function set_updated_at()
    returns trigger
    language plpgsql
    set search_path = public, pg_temp
as $function$
begin
    new.updated_at := now();
    return new;
end;
$function$;

create table branches (
    id             bigint generated always as identity primary key,
    code           text not null,
    name           text not null,
    licence_number text,
    address        text,
    phone          text,
    time_zone      text not null default 'UTC',
    currency       text not null default 'USD',
    is_active      boolean not null default true,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),

    constraint branches_code_is_unique unique (code),
    constraint branches_code_is_short_upper_case check (code ~ '^[A-Z0-9-]{2,12}$'),
    constraint branches_name_is_given check (btrim(name) <> ''),
    constraint branches_currency_is_iso check (currency ~ '^[A-Z]{3}$'),
    -- An unknown zone raises here; stored, it would break every view that asks what day it is in the branch.
    constraint branches_time_zone_is_known check ((timestamptz '2000-01-01 00:00+00' at time zone time_zone) is not null)
);

create trigger branches_set_updated_at
    before update on branches
    for each row
    execute function set_updated_at();

-- migrate:down

drop table branches;

drop function set_updated_at();
