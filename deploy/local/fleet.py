"""Rows of a large fleet in the catalog, as if so many tenants had signed up: for tests and benchmarks of what must not get
slower with it. There are no databases behind them."""

from __future__ import annotations

import psycopg

# A tenant's number is in its id, so that the same fleet can be made larger.
TENANT = "('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"

ROWS = f"""
insert into provisioner.tenant (tenant_id, slug, company, email, admin_id, plan, driver, state, state_since,
                                access_applied, invite_sent, schema_version, labels, created_at)
select {TENANT}, 'fleet-' || n, 'Apotheke Öresund Nr. ' || n, 'owner' || n || '@fleet.test', gen_random_uuid(),
    (array['starter', 'business', 'chain'])[n %% 3 + 1], 'postgres', 'ready', now() - n * interval '1 s', 'full', 1,
    '20260105096000', array_remove(array[case when n %% 500 = 0 then 'canary' end, case when n %% 4 > 0 then 'eu' end], null),
    now() - n * interval '1 s'
from generate_series(%(first)s::int, %(last)s::int) n;
insert into provisioner.slug (slug, tenant_id)
select 'fleet-' || n, {TENANT} from generate_series(%(first)s::int, %(last)s::int) n;
insert into provisioner.database (tenant_id, generation, driver, server, name, host, port, dbname, owner_login, app_login,
                                  status)
select {TENANT}, 1, 'postgres', 'elsewhere', 'tn_fleet_' || n, '127.0.0.1', '1', 'tn_fleet_' || n,
    'tn_fleet_' || n || '_owner', 'tn_fleet_' || n || '_app_a', 'live'
from generate_series(%(first)s::int, %(last)s::int) n;
insert into provisioner.secret (tenant_id, field, generation, ring, sealed)
select {TENANT}, field, 1, ring, key || '.' || repeat('x', 120)
from generate_series(%(first)s::int, %(last)s::int) n,
    (values ('owner_password', 'control', %(control)s), ('app_password', 'app', %(app)s)) s (field, ring, key);
insert into provisioner.saga (tenant_id, kind, step, status, progress, created_at, finished_at)
select {TENANT}, 'provision', 'invite', 'done', 100, now() - n * interval '1 s', now() - n * interval '1 s'
from generate_series(%(first)s::int, %(last)s::int) n;
insert into catalog.tenant_status (tenant_id, version, published_version, changed_at)
select {TENANT}, 1, 1, now() - interval '1 day' from generate_series(%(first)s::int, %(last)s::int) n;
insert into catalog.tenant_event (tenant_id, message_key, type, data, at, published)
select {TENANT}, ({TENANT})::text, type, '{{"activity": "provision"}}', now() - interval '1 day', true
from generate_series(%(first)s::int, %(last)s::int) n,
    (values ('tenant.requested.v1'), ('tenant.activity.started.v1'), ('tenant.state.changed.v1')) e (type);
insert into catalog.operation (operation_id, source, tenant_id, kind, state, finished_at)
select {TENANT}, '/fleet', {TENANT}, 'signup', 'succeeded', now() - interval '1 day'
from generate_series(%(first)s::int, %(last)s::int) n;
"""


def make_fleet(url: str, count: int, *, first: int = 1, control_key: str = "c1", app_key: str = "a1") -> None:
    """Adds the tenants number `first` to `first + count - 1`, all ready and open, to the catalog at `url` (as superuser).
    The keys name the rings' primary keys, so that nothing is due to be sealed anew."""
    values = {"first": first, "last": first + count - 1, "control": control_key, "app": app_key}
    with psycopg.connect(url) as catalog, psycopg.ClientCursor(catalog) as cursor:
        cursor.execute(ROWS, values)
    with psycopg.connect(url, autocommit=True) as catalog:
        catalog.execute("vacuum analyze")


def tenant_number(number: int) -> str:
    """The id of one of them."""
    return f"00000000-0000-4000-8000-{number:012x}"
