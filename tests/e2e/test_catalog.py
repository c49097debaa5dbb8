"""The catalog's own rules, asked as the services ask them: fences, claims, names, batches, and what statements cost when the
fleet is large. PostgreSQL and `tenantry init`; no service runs."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.fleet import make_fleet, tenant_number
from deploy.local.stack import CATALOG, Stack

from .conftest import bare_catalog

FLEET = 20_000


@pytest.fixture(scope="module")
def catalog() -> Iterator[Stack]:
    with bare_catalog("catalog") as stack:
        yield stack


def as_service(stack: Stack, name: str = "provisioner", schema: str | None = None) -> psycopg.Connection[Any]:
    """A session with the service's own login and search path."""
    session = psycopg.connect(stack.catalog_url(name), autocommit=True)
    session.execute(f"set search_path = {schema or name}, durable, catalog; set lock_timeout = '10s'")
    return session


@pytest.fixture
def provisioner(catalog: Stack) -> Iterator[psycopg.Connection[Any]]:
    with as_service(catalog) as session:
        yield session


@pytest.fixture
def admin(catalog: Stack) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(catalog.postgres.url(CATALOG), autocommit=True) as session:
        session.execute("set search_path = provisioner, durable, catalog")
        yield session


def one(session: psycopg.Connection[Any], sql: str, *values: Any) -> Any:
    row = session.execute(sql, values or None).fetchone()
    assert row is not None
    return row[0]


def event_of(event_type: str, tenant: str, **more: str) -> str:
    return json.dumps({"id": str(uuid.uuid4()), "source": "/test", "type": event_type, "key": tenant, **more})


def sign_up(session: psycopg.Connection[Any], **data: str) -> str:
    tenant = str(uuid.uuid4())
    signup = {"tenant_id": tenant, "company": "Shop", "email": "a@shop.test", "driver": "postgres", **data}
    session.execute("select accept_event(%s, %s)", (event_of("tenant.signup.requested.v1", tenant), json.dumps(signup)))
    return tenant


def command(session: psycopg.Connection[Any], tenant: str, name: str, **data: str) -> str:
    event = event_of(f"tenant.{name}.requested.v1", tenant)
    session.execute("select accept_event(%s, %s)", (event, json.dumps({"tenant_id": tenant, **data})))
    return str(json.loads(event)["id"])


def make_ready(admin: psycopg.Connection[Any], tenant: str) -> None:
    """As if its provisioning had ended well."""
    admin.execute(
        "update tenant set state = 'ready', access_applied = 'full', invite_sent = 1 where tenant_id = %s", (tenant,)
    )
    admin.execute("update saga set status = 'done', finished_at = now() where tenant_id = %s", (tenant,))
    admin.execute("delete from catalog.tenant_claim where tenant_id = %s", (tenant,))
    admin.execute("select settle_operations(%s)", (tenant,))


@pytest.mark.parametrize("ahead", [False, True], ids=["behind the clock", "ahead of the clock"])
def test_fences_are_strictly_rising_for_all_who_draw_at_once(
    catalog: Stack, admin: psycopg.Connection[Any], ahead: bool
) -> None:
    """Ahead: as after the clock was set back."""
    where = "extract(epoch from clock_timestamp() + interval '1 hour') * 1000000" if ahead else "1"
    admin.execute(f"select setval('catalog.fence', ({where})::bigint)")
    drawn: list[list[int]] = []

    def draw() -> None:
        with as_service(catalog) as session:
            drawn.append([row[0] for row in session.execute("select next_fence() from generate_series(1, 2000)")])

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(drawn) == 8 and all(mine == sorted(set(mine)) for mine in drawn), "each session's only rise"
    assert len({fence for mine in drawn for fence in mine}) == 8 * 2000, "nobody has another's"
    if not ahead:
        assert min(min(mine) for mine in drawn) > 1_700_000_000_000_000, "none is below the clock"


def test_a_cancelled_draw_holds_up_nobody(catalog: Stack, provisioner: psycopg.Connection[Any]) -> None:
    with as_service(catalog) as holder, as_service(catalog) as waiter:
        holder.execute("select pg_advisory_lock(hashtextextended('tenantry fence', 0))")
        waiter.execute("set statement_timeout = '100ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            waiter.execute("select next_fence()")
        holder.execute("select pg_advisory_unlock_all()")
        assert one(waiter, "select next_fence()") < one(provisioner, "select next_fence()")


def test_two_signups_wait_for_each_other_only_where_they_want_one_name(catalog: Stack) -> None:
    with as_service(catalog) as first, as_service(catalog) as second:
        first.autocommit = False
        sign_up(first, subdomain="the-same")
        sign_up(second, subdomain="another-one")  # while the first one's transaction is open
        second.execute("set lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            sign_up(second, subdomain="the-same")
        first.rollback()
        sign_up(second, subdomain="the-same")


def test_a_name_that_is_held_is_not_given_away_and_a_similar_one_is_found(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    former = sign_up(provisioner, subdomain="held-shop")
    admin.execute("update slug set held_until = now() + interval '1 day' where slug = 'held-shop'")
    assert (
        one(provisioner, "select slug from tenant where tenant_id = %s", sign_up(provisioner, slug="held-shop"))
        == "held-shop-2"
    )
    assert (
        one(provisioner, "select slug from tenant where tenant_id = %s", sign_up(provisioner, slug="held-shop"))
        == "held-shop-3"
    )
    assert one(admin, "select tenant_id::text from slug where slug = 'held-shop'") == former
    admin.execute("update slug set held_until = now() - interval '1 s' where slug = 'held-shop'")
    heir = sign_up(provisioner, subdomain="held-shop")
    assert one(admin, "select tenant_id::text from slug where slug = 'held-shop'") == heir


def test_a_retry_under_anothers_claim_is_applied_when_that_is_released(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    tenant, job = sign_up(provisioner, slug="retried"), str(uuid.uuid4())
    make_ready(admin, tenant)
    admin.execute("update tenant set state = 'attention', blocked = 'access' where tenant_id = %s", (tenant,))
    assert one(provisioner, "select claim_take(%s, 'backup', %s)", tenant, job) is True
    operation = command(provisioner, tenant, "retry")
    state = "select state from catalog.operation where operation_id = %s"
    assert one(admin, state, operation) == "accepted"
    provisioner.execute("select wake_some(100)")
    assert one(admin, state, operation) == "accepted", "a generation must not change under a claim"
    provisioner.execute("select claim_release(%s, %s)", (tenant, job))
    provisioner.execute("select wake_some(100)")
    assert one(admin, state, operation) == "succeeded"
    assert one(admin, "select state from tenant where tenant_id = %s", tenant) == "ready"


def test_what_can_wait_is_told_once_that_something_urgent_wants_the_tenant(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    tenant, job, other = sign_up(provisioner, slug="wanted"), str(uuid.uuid4()), str(uuid.uuid4())
    make_ready(admin, tenant)
    wanted = "select way_wanted from catalog.tenant_claim where tenant_id = %s"
    assert one(provisioner, "select claim_take(%s, 'backup', %s)", tenant, job) is True
    assert one(provisioner, "select claim_take(%s, 'backup', %s)", tenant, job) is True, "asked again it is still ours"
    assert one(provisioner, "select claim_take(%s, 'rotate', %s)", tenant, other) is False
    assert one(admin, wanted, tenant) is False, "a rotation is not urgent"
    command(provisioner, tenant, "suspend")
    assert one(admin, wanted, tenant) is True
    provisioner.execute("select claim_release(%s, %s)", (tenant, job))


def test_operations_of_another_service_are_left_alone(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    tenant, theirs = sign_up(provisioner, slug="shared"), str(uuid.uuid4())
    make_ready(admin, tenant)
    admin.execute(
        "insert into catalog.operation (operation_id, service, source, tenant_id, kind) values (%s, 'billing', '/b', %s, 'backup')",
        (theirs, tenant),
    )
    admin.execute("update tenant set state = 'archived', lifecycle_wanted = 'archived' where tenant_id = %s", (tenant,))
    provisioner.execute("select settle_operations(%s)", (tenant,))
    provisioner.execute("select fail_operations(%s, array['backup'], 'x', 'x')", (tenant,))
    assert one(admin, "select state from catalog.operation where operation_id = %s", theirs) == "accepted"


def test_a_command_before_its_signup_says_that_it_waits(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    tenant = str(uuid.uuid4())
    operation = command(provisioner, tenant, "backup")
    told = "select state, code from catalog.operation where operation_id = %s"
    assert admin.execute(told, (operation,)).fetchone() == ("accepted", "parked")
    signup = {"tenant_id": tenant, "company": "Late", "email": "a@late.test", "driver": "postgres", "slug": "late"}
    provisioner.execute(
        "select accept_event(%s, %s)", (event_of("tenant.signup.requested.v1", tenant), json.dumps(signup))
    )
    assert admin.execute(told, (operation,)).fetchone() == ("accepted", None)


def test_what_is_too_old_is_forgotten_a_piece_at_a_time(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute(
        "insert into inbox (source, event_id, body_hash, taken_at) "
        "select '/old', n::text, '', now() - interval '31 days' from generate_series(1, 7000) n"
    )
    admin.execute("insert into inbox (source, event_id, body_hash) values ('/new', '1', '')")
    assert one(provisioner, "select prune()") == 5000
    assert one(provisioner, "select prune()") == 2000
    assert one(provisioner, "select prune()") == 0
    assert one(admin, "select count(*) from inbox where source = '/new'") == 1


def test_a_held_saga_is_told_once_and_its_alert_ends_when_it_moves(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    tenant = sign_up(provisioner, slug="held-up")
    saga = one(
        admin,
        "update saga set owner = 'me', fence = 7, data = '{\"a\": 1}' where tenant_id = %s returning saga_id",
        tenant,
    )
    hold = 'select saga_hold(%s, 7, null, 60000, \'{"code": "token", "detail": "refused"}\', false, \'test-token\')'
    provisioner.execute(hold, (saga,))
    provisioner.execute(hold, (saga,))
    held = admin.execute("select held_for, attempt, data ->> 'a' from saga where saga_id = %s", (saga,)).fetchone()
    assert held == ("test-token", 2, "1"), "counted, and what it remembers is kept"
    open_alert = "select times from catalog.alert where cause = 'held:provisioner:test-token' and resolved_at is null"
    assert admin.execute(open_alert).fetchall() == [(2,)]
    provisioner.execute("select watch_stuck()")
    assert admin.execute(open_alert).fetchall() == [(2,)], "somebody still waits"
    provisioner.execute(
        "select saga_advance(%s, 7, 'reserve', 'create', 'running', 10, '{}', null, 1000, false)", (saga,)
    )
    provisioner.execute("select watch_stuck()")
    assert admin.execute(open_alert).fetchall() == []


def test_services_have_one_number_space_of_dead_letters(catalog: Stack, admin: psycopg.Connection[Any]) -> None:
    message = json.dumps({"topic": "t", "partition": 0, "offset": 1, "headers": [], "value": "AAAA"})
    for name in ("provisioner", "billing"):
        with as_service(catalog, name) as session:
            session.execute("select put_dead_letter(%s, 'not_json', null, 'no')", (message,))
    with as_service(catalog, "gateway") as gateway:
        found = gateway.execute("select service, id from gateway.dead_letter order by id").fetchall()
    assert [service for service, _ in found] == ["provisioner", "billing"] and found[0][1] < found[1][1]
    admin.execute("delete from catalog.dead_letter")


def test_a_dead_letter_that_its_topic_does_not_have_is_not_dropped(
    catalog: Stack, admin: psycopg.Connection[Any]
) -> None:
    message = json.dumps({"topic": "t", "partition": 3, "offset": 7, "headers": [], "value": "AAAA"})
    with as_service(catalog) as session:
        session.execute("select put_dead_letter(%s, 'not_json', null, 'no')", (message,))
    letter = one(admin, "select id from catalog.dead_letter")
    drop = "select catalog.drop_dead_letter(%s, %s, 'me')"
    with as_service(catalog, "gateway") as gateway:
        assert one(gateway, drop, letter, "not_json") == "not_published"
        assert one(gateway, drop, letter, None) == "not_confirmed"
        admin.execute("select catalog.dead_letters_published(%s)", ([letter],))
        assert one(gateway, drop, letter, "not_json") == "dropped"
        assert one(gateway, drop, letter, "not_json") == "not_found"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            gateway.execute("select catalog.record_deed('t', 'x', 1, 'y', null, 'me')")
    told = one(
        admin,
        "select data from catalog.tenant_event where type = 'tenant.operator.acted.v1' and message_key = 't[3]@7'",
    )
    assert told == {"action": "dead_letter_dropped", "id": letter, "about": "t[3]@7", "code": "not_json", "by": "me"}


def file_of(tenant: str, name: str, days: float = 0) -> dict[str, Any]:
    return {"tenant_id": tenant, "name": name, "bytes": 100, "age": int(days * 86400)}


def record_backup(admin: psycopg.Connection[Any], tenant: str, saga: str, fence: int, minutes_ago: int) -> str:
    """As learn_backup does; returns the file's name."""
    name = f"{saga}-{fence}.backup"
    admin.execute(
        "insert into backup (tenant_id, location, kind, bytes, sha256, objects, created_at) "
        "values (%s, %s, 'backup', 100, '', 1, now() - %s * interval '1 minute')",
        (tenant, f"/mnt/archive/{tenant}/{name}", minutes_ago),
    )
    return name


def test_archive_files_are_judged_by_what_was_recorded_and_by_who_is_at_work(
    provisioner: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    tenant, gone, other = sorted(sign_up(provisioner, slug=f"archive-{n}") for n in range(3))
    at_work = one(admin, "select saga_id::text from saga where tenant_id = %s", tenant)
    saga, ended = str(uuid.uuid4()), str(uuid.uuid4())
    oldest, older, newest = (record_backup(admin, tenant, saga, fence, 50 - fence) for fence in (20, 21, 22))
    just_now = record_backup(admin, tenant, ended, 7, 0)
    left = record_backup(admin, gone, saga, 20, 60)
    missed = record_backup(admin, other, saga, 20, 60)
    admin.execute("update tenant set state = 'deprovisioned' where tenant_id = %s", (gone,))
    files = [
        file_of(tenant, older),
        file_of(tenant, newest),
        file_of(tenant, f"{saga}-19.backup", 2),
        file_of(tenant, f"{saga}-18.backup.partial", 0.5),
        file_of(tenant, f"{ended}-9.backup.partial", 9),
        file_of(tenant, f"{at_work}-5.backup", 9),
        file_of(tenant, f"{saga}-21.backup.old", 9),
        file_of(other, f"{saga}-19.archive", 0.1),
    ]
    known, remove = provisioner.execute(
        "select known, remove from report_archive_files(null, null, %s, 1000)", (json.dumps(files),)
    ).fetchone() or (0, [])
    assert (known, remove) == (2, [f"{tenant}/{saga}-19.backup"]), "only what is superseded and a day old goes"
    told = admin.execute("select name, verdict, superseded from archive_file").fetchall()
    assert set(told) == {
        (f"{tenant}/{saga}-19.backup", "orphan", True),
        (f"{tenant}/{saga}-18.backup.partial", "orphan", True),
        (f"{tenant}/{ended}-9.backup.partial", "orphan", False),
        (f"{tenant}/{saga}-21.backup.old", "orphan", False),
        (f"{other}/{saga}-19.archive", "orphan", True),
        (f"{other}/{missed}", "missing", False),
    }, f"not {oldest} (a newer one is there), {just_now} (younger than the look), {left} (its tenant is gone)"
    provisioner.execute("select archive_looked_at(2, 800)")
    alert = "select detail from catalog.alert where cause = 'inventory:archive' and resolved_at is null"
    assert "2 files that no tenant knows, 1 that are missing" in one(admin, alert)
    provisioner.execute("select report_archive_files(%s, %s, '[]', 1000)", (gone, other))
    assert {row[0] for row in admin.execute("select name from archive_file where tenant_id = %s", (other,))} == {
        f"{other}/{missed}"
    }, "each batch replaces what was told of its own tenants"
    assert one(admin, "select count(*) from archive_file where tenant_id = %s", tenant) == 4
    admin.execute("delete from backup; delete from archive_file; select resolve_alert('inventory:archive')")


# With many tenants. What a statement costs is counted in pages, which do not depend on the machine.


@pytest.fixture(scope="module")
def fleet(catalog: Stack) -> Stack:
    make_fleet(catalog.postgres.url(CATALOG), FLEET)
    return catalog


def pages(session: psycopg.Connection[Any], sql: str) -> int:
    """How many pages the statement looks at."""
    plan = one(session, "explain (analyze, buffers, timing off, format json) " + sql)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


MIDDLE = f"'{datetime.now(UTC) - timedelta(hours=3)}'"  # as a cursor has it

# State, subdomain, plan, place and id of the cursor, first and last id, beginning, search, label; then the order.
LISTS = {
    "the first page": {},
    "a page in the middle": {"place": MIDDLE, "id": f"'{tenant_number(1)}'"},
    "of one state": {"state": "'attention'"},
    "of one plan": {"plan": "'chain'"},
    "by its name": {"subdomain": "'fleet-17'"},
    "of names that begin so": {"begins": "'fleet-19'", "sort": "subdomain"},
    "by the beginning of an id": {
        "first": "'00000000-0000-4000-8000-000000000a00'",
        "last": "'00000000-0000-4000-8000-000000000aff'",
    },
    "the newest": {"sort": "-created_at"},
    "what changed last": {"sort": "-since"},
    "what changed last, in the middle": {"sort": "-since", "place": MIDDLE, "id": f"'{tenant_number(1)}'"},
    "of one plan by name": {"sort": "subdomain", "plan": "'starter'"},
    "from the end of the names": {"sort": "-subdomain", "place": "'fleet-5'", "id": f"'{tenant_number(1)}'"},
    "of one state by name": {"sort": "subdomain", "state": "'attention'"},
    "what a search finds": {"search": "'%sund nr. 1234%'"},
    "what a search does not find": {"search": "'%no such%'", "sort": "-since"},
    "what a search finds everywhere": {"search": "'%apotheke%'"},
    "of a label that few have": {"label": "'canary'"},
    "of a label that few have by name": {"label": "'canary'", "sort": "subdomain"},
    "of a label that most have": {"label": "'eu'"},
    "of a label that nobody has": {"label": "'moon'", "sort": "-since"},
    "of a label and one state": {"label": "'canary'", "state": "'ready'"},
}
ORDERS = {
    "created_at": ("created_at", "timestamptz"),
    "since": ("state_since", "timestamptz"),
    "subdomain": ('slug collate "C"', "text"),
}
VALUES = ["state", "subdomain", "plan", "place", "id", "limit", "first", "last", "begins", "search", "label"]


def statement(name: str) -> str:
    """The gateway's own statement of that name."""
    source = "".join(Path(f"services/gateway/{file}.c").read_text() for file in ("lists", "reads"))
    text = source.partition(f"{name}[] =")[2].partition(";\n")[0]
    return "".join(part.strip()[1:-1].replace('\\"', '"') for part in text.strip().splitlines())


def filled(sql: str, *values: str) -> str:
    """With the values in place of its parameters."""
    for number in range(len(values), 0, -1):
        sql = sql.replace(f"${number}", f"({values[number - 1]})")
    return sql


def page_of_tenants(**wish: str) -> str:
    sort = wish.get("sort", "created_at")
    column, kind = ORDERS[sort.removeprefix("-")]
    after, way = ("<", "desc") if sort.startswith("-") else (">", "asc")
    sql = statement("SQL_TENANTS")
    for number, part in enumerate((column, kind, after, way, "p.place"), 1):
        sql = sql.replace(f"%{number}$s", part)
    return filled(sql, *({"limit": "50", **wish}.get(name, "null") for name in VALUES))


@pytest.mark.parametrize("which", LISTS)
def test_a_page_of_tenants_costs_what_it_shows(fleet: Stack, which: str) -> None:
    with as_service(fleet, "gateway") as gateway:
        assert pages(gateway, page_of_tenants(**dict(LISTS[which]))) < 1500


@pytest.mark.parametrize(
    "values",
    [
        ["null", "null", "null", "null", "50", "null", "null"],
        ["null", "null", MIDDLE, f"'{tenant_number(1)}'", "50", "null", "null"],
        [f"'{tenant_number(77)}'", "null", "null", "null", "50", "null", "null"],
        ["null", "'failed'", "null", "null", "50", "null", "null"],
        ["null", "null", "null", "null", "50", "'00000000-0000-4000-8000-000000000a00'", "'00000000-0000-4000-8000-000000000aff'"],
    ],
    ids=["the newest", "in the middle", "of one tenant", "of one state", "by the beginning of an id"],
)  # fmt: skip
def test_a_page_of_operations_costs_what_it_shows(fleet: Stack, values: list[str]) -> None:
    with as_service(fleet, "gateway") as gateway:
        assert pages(gateway, filled(statement("SQL_OPERATIONS"), *values)) < 1500


@pytest.mark.parametrize(
    "sql, most",
    [
        ("select wake_some(200)", 100),
        ("select * from saga_claim('me', '{provision/reserve}', '{}', 1000, 8, 4)", 200),
        ("select * from secrets_to_rewrap('control', 'c1', 50)", 100),
        ("select watch_stuck()", 200),
        ("select prune()", 2000),
        ("select * from saga_backlog()", 100),
        ("select * from catalog.census()", 100),
        ("select * from catalog.snapshots_due(500, '{}')", 1000),  # those of the tests before are due
        ("select * from catalog.dead_letters_to_publish(500, '{}')", 1000),
        ("select fire_timers(200)", 100),
    ],
)
def test_what_is_asked_every_few_seconds_does_not_look_at_the_whole_fleet(fleet: Stack, sql: str, most: int) -> None:
    with as_service(fleet) as session:
        session.execute(sql)  # plans and caches
        assert pages(session, sql) < most


def test_timers_are_looked_for_without_a_look_at_all_open_alerts(fleet: Stack, admin: psycopg.Connection[Any]) -> None:
    admin.execute("select fire_timers(200)")  # plans and caches
    with admin.transaction(force_rollback=True):
        admin.execute(
            "insert into alert (cause, title, detail) select 'tenant-attention:' || n, '', '' from generate_series(1, 20000) n"
        )
        admin.execute("select raise_alert('timer:provisioner:gone', null, '', '')")
        admin.execute("select raise_alert('timer:provisioner_2:other', null, '', '')")
        assert pages(admin, "select fire_timers(200)") < 100
        open_now = "select cause from alert where resolved_at is null and cause like 'timer:%'"
        assert admin.execute(open_now).fetchall() == [("timer:provisioner_2:other",)], "its own, and no other's"


def test_all_who_ask_how_many_there_are_are_told_by_one_who_counts_the_leaves_of_an_index(
    fleet: Stack, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("delete from catalog.census")
    with as_service(fleet) as counting, as_service(fleet, "gateway") as asking:
        counting.autocommit = False
        told = "select count from catalog.census() where what = 'tenants' and label = 'ready'"
        assert one(counting, told) >= FLEET
        assert asking.execute(told).fetchall() == [], "who asks meanwhile does not wait, and does not count as well"
        counting.commit()
        assert one(asking, told) == one(counting, told)
    assert pages(admin, "select * from catalog.census_now") < FLEET / 50


@pytest.mark.parametrize("place", ["null", """'[true, "postgres", "elsewhere", "tn_fleet_2000"]'"""])
def test_a_page_of_the_inventory_costs_what_it_shows(fleet: Stack, admin: psycopg.Connection[Any], place: str) -> None:
    admin.execute(
        "insert into inventory (driver, server, name, tenant_id, generation, verdict) "
        "select driver, server, name, tenant_id, generation, 'ours' from database where server = 'elsewhere' "
        "on conflict do nothing"
    )
    admin.execute("analyze inventory")
    with as_service(fleet, "gateway") as gateway:
        assert pages(gateway, filled(statement("SQL_INVENTORY"), place, "50")) < 200
        assert pages(gateway, filled(statement("SQL_INVENTORY"), place, "500")) < 1000


def test_how_many_databases_a_server_has_is_known_without_counting_them(
    fleet: Stack, admin: psycopg.Connection[Any]
) -> None:
    server = {"name": "elsewhere", "capacity": 10, "tenant_host": "127.0.0.1", "tenant_port": "1"}
    placed, count = (
        "select placed from server where name = 'elsewhere'",
        "select count(*) from database where server = 'elsewhere'",
    )
    before = admin.execute(
        "select name, region, capacity, tenant_host, tenant_port from server where enabled"
    ).fetchall()
    try:
        admin.execute("select sync_servers(%s)", (json.dumps([server]),))
        assert one(admin, placed) == one(admin, count) == FLEET, "the server is younger than its databases"
        for status, gone in (("deleted", 1), ("deleted", 1), ("quarantined", 0), ("live", 0)):
            admin.execute("update database set status = %s where tenant_id = %s", (status, tenant_number(7)))
            assert one(admin, placed) == FLEET - gone
    finally:
        named = [
            dict(zip(("name", "region", "capacity", "tenant_host", "tenant_port"), row, strict=True)) for row in before
        ]
        admin.execute("select sync_servers(%s)", (json.dumps(named),))


def test_the_load_is_told_without_looking_at_the_whole_fleet(fleet: Stack) -> None:
    with as_service(fleet, "gateway") as gateway:
        assert pages(gateway, "select * from gateway.load") < 100


def test_a_whole_fleet_is_woken_in_batches_and_who_is_busy_holds_up_nobody(
    fleet: Stack, admin: psycopg.Connection[Any]
) -> None:
    many = 1000
    admin.execute(
        "insert into access_wanted (tenant_id, source, wanted) select tenant_id, 'billing', 'none' from tenant "
        "where slug like 'fleet-%%' order by tenant_id limit %s", (many,),
    )  # fmt: skip
    with as_service(fleet) as busy, as_service(fleet) as waker:
        busy.autocommit = False
        busy.execute("select lock_tenant(%s)", (tenant_number(5),))
        woken: list[int] = []
        while not woken or woken[-1] == 200:
            woken.append(one(waker, "select wake_some(200)"))
        assert sum(woken) == many - 1 and max(woken) == 200
        busy.rollback()
        assert one(waker, "select wake_some(200)") == 1
    assert (
        one(
            admin,
            "select count(*) from saga where kind = 'access' and status = 'running' and tenant_id <= %s",
            tenant_number(FLEET),
        )
        == many
    )


def test_secrets_under_an_old_key_are_found_among_many_and_one_that_does_not_open_holds_up_none(
    fleet: Stack, admin: psycopg.Connection[Any], provisioner: psycopg.Connection[Any]
) -> None:
    admin.execute(
        "update secret set sealed = 'old.x' where field = 'owner_password' and tenant_id < %s", (tenant_number(300),)
    )
    admin.execute(
        "update secret set sealed = 'lost.x' where field = 'owner_password' and tenant_id = %s", (tenant_number(1000),)
    )
    found: set[str] = set()
    for _ in range(400):
        batch = provisioner.execute(
            "select tenant_id::text, sealed from secrets_to_rewrap('control', 'c1', 50)"
        ).fetchall()
        found |= {sealed for _, sealed in batch}
        for tenant, sealed in batch:
            if sealed == "old.x":
                admin.execute(
                    "update secret set sealed = 'c1.x' where field = 'owner_password' and tenant_id = %s", (tenant,)
                )
        if not any(sealed == "old.x" for _, sealed in batch):
            break
    assert found == {"old.x", "lost.x"}
    assert one(admin, "select count(*) from secret where sealed = 'old.x'") == 0


def test_a_batch_of_archive_folders_costs_what_is_in_it(
    fleet: Stack, admin: psycopg.Connection[Any], provisioner: psycopg.Connection[Any]
) -> None:
    admin.execute(
        "insert into backup (tenant_id, location, kind, bytes, sha256, objects, created_at) "
        "select tenant_id, '/mnt/' || tenant_id || '/' || gen_random_uuid() || '-' || n || '.backup', 'backup', 1, '', 1, "
        "now() - interval '1 day' from tenant, generate_series(1, 3) n"
    )
    admin.execute("analyze backup")
    after, until = tenant_number(5000), tenant_number(5500)
    files = one(
        admin,
        "select jsonb_agg(jsonb_build_object('tenant_id', tenant_id, 'name', split_part(location, '/', 4), 'bytes', 1, "
        "'age', 86400)) from backup where tenant_id > %s and tenant_id <= %s",
        after, until,
    )  # fmt: skip
    assert len(files) == 1500
    look = psycopg.ClientCursor(provisioner).mogrify(
        "select known from report_archive_files(%s, %s, %s, 1000)", (after, until, json.dumps(files))
    )
    assert provisioner.execute(look).fetchone() == (1500,)
    assert pages(provisioner, look) < 5000
    admin.execute("delete from backup")


def test_a_run_of_many_files_over_a_large_fleet_is_planned_in_time(
    fleet: Stack, admin: psycopg.Connection[Any]
) -> None:
    """What takes longer than an intake's statement may is never taken, and holds up its partition."""
    admin.execute("set search_path = migrator, durable, catalog")
    admin.execute(
        "insert into file (version, name, checksum, sql, transaction, reversible, registered_by) "
        "select n::text, n || '_f.sql', 'x', 'select 1', true, true, '' from generate_series(1001, 1500) n"
    )
    versions = json.dumps([str(number) for number in range(1001, 1500)])
    admin.execute("select record_ledger(tenant_id, %s) from provisioner.fleet where slug like 'fleet-%%'", (versions,))
    waves = [{"labels": [f"none-{wave}-{label}" for label in range(20)]} for wave in range(49)] + [{"percent": 100}]
    with as_service(fleet, "migrator") as session:
        session.execute("set statement_timeout = '8s'")
        for code, wanted in (("unknown_label", {"strategy": "waves", "waves": waves}), (None, {"strategy": "gradual"})):
            event = event_of("migration.run.requested.v1", "")
            data = {"run_id": str(uuid.uuid4()), **wanted}
            session.execute("select accept_event(%s, %s)", (event, json.dumps(data)))
            assert one(admin, "select code from operation where operation_id = %s", json.loads(event)["id"]) == code
    admin.execute("delete from job; delete from run; delete from tenant; delete from ledger; delete from file")
