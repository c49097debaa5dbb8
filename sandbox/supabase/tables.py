"""The tables in which the room keeps organizations, projects and their users."""

SCHEMA = """
create table if not exists organization (
    slug         text primary key,
    name         text not null,
    plan         text not null,
    max_projects integer not null
);

create table if not exists project (
    id                bigint generated always as identity primary key,
    ref               text not null unique,
    organization_slug text not null references organization,
    name              text not null,
    region            text not null,
    instance_size     text not null,
    is_branch         boolean not null default false,
    created_at        timestamptz not null,
    up_at             timestamptz not null,
    coming            text not null default 'COMING_UP',
    settled           text not null default 'ACTIVE_HEALTHY',
    forced_status     text,
    stuck_by          bigint,
    stuck_status      text,
    stuck_until       timestamptz,
    deleted_at        timestamptz,
    database_name     text not null,
    owner_login       text not null,
    password_verifier text not null,
    database_ready    boolean not null default false,
    database_dropped  boolean not null default false,
    jwt_secret        text not null,
    postgrest         jsonb not null,
    auth_config       jsonb not null,
    restrictions      jsonb not null
);

create unique index if not exists project_name
    on project (organization_slug, name)
    where deleted_at is null and not is_branch;

create table if not exists auth_user (
    ref        text not null references project (ref),
    id         uuid not null,
    email      text,
    password   text,
    document   jsonb not null,
    deleted_at timestamptz,
    primary key (ref, id)
);

create unique index if not exists auth_user_email
    on auth_user (ref, email)
    where deleted_at is null;

create table if not exists auth_link (
    ref        text not null,
    user_id    uuid not null,
    purpose    text not null,
    token_hash text not null,
    expires_at timestamptz not null,
    primary key (ref, user_id, purpose),
    foreign key (ref, user_id) references auth_user (ref, id) on delete cascade
);

create table if not exists auth_session (
    token_hash text primary key,
    ref        text not null,
    user_id    uuid not null,
    foreign key (ref, user_id) references auth_user (ref, id) on delete cascade
);
"""

# What a reset empties.
TABLES = ("project", "organization", "auth_user", "auth_link", "auth_session")
