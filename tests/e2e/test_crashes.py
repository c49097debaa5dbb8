"""kill -9 at every failpoint that the postgres driver reaches, with work in flight; and no secret in clear."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack

from .client import Api
from .conftest import SHORT_LEASE, make_stack
from .crashing import ENDS, Aftermath, Crash, check_ends, crashes, die
from .invariants import rows
from .secret_search import Search, log_everything, places
from .secrets_of import invitations, secrets_of, tenant_passwords

CRASHES = pytest.mark.parametrize("crash", crashes("gateway", "provisioner"), ids=lambda crash: crash.name)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    options = {"LEASE": SHORT_LEASE, "LOG_LEVEL": "debug"}
    for made in make_stack("postgres", options=options, keep_memberships=True):
        log_everything(made)
        yield made


@CRASHES
def test_a_service_dies_at(
    crash: Crash, stack: Stack, api: Api, aftermaths: dict[Crash, Aftermath], seen: dict[str, bytes]
) -> None:
    aftermaths[crash] = die(stack, api, crash)
    seen.update(tenant_passwords(stack))


@CRASHES
def test_all_under_way_come_to_their_end_after(
    crash: Crash, stack: Stack, api: Api, aftermaths: dict[Crash, Aftermath]
) -> None:
    assert crash in aftermaths, "the service did not die there"
    check_ends(api, aftermaths[crash])
    for tenant, state in aftermaths[crash].wanted.items():
        check_belongings(stack, tenant, 0 if state in ENDS.values() else 1)
    companies = rows(stack, f"select company from provisioner.tenant where company like '{crash.name} _'")
    assert sorted(company for (company,) in companies) == [f"{crash.name} {n}" for n in range(3)]


def check_belongings(stack: Stack, tenant: str, databases: int) -> None:
    """One database with its three or four logins, or nothing at all."""
    name = f"tn_{tenant.replace('-', '')}"
    found = rows(stack, f"select datname from pg_database where starts_with(datname, '{name}')")
    logins = rows(stack, f"select rolname from pg_roles where starts_with(rolname, '{name}')")
    assert len(found) == databases, found
    assert len(logins) in ((3, 4) if databases else (0,)), logins


def test_no_secret_is_anywhere_in_clear(
    stack: Stack, api: Api, app: Api, seen: dict[str, bytes], tmp_path: Path
) -> None:
    tenant = api.ready_tenant("Secretive Shop", email="owner@secretive.test")
    for command in ("backup", "rotate-credentials"):
        assert api.wait_operation(api.command(tenant, command).json["operation_id"])["state"] == "succeeded"
    handed_out = app.get(f"/api/tenants/{tenant}/connection").json
    seen.update(tenant_passwords(stack))
    assert handed_out["password"].encode() in seen.values()
    assert len(seen) > 250
    secrets = Search({**seen, **secrets_of(stack)}, tmp_path)
    links = invitations(stack)
    assert len(links) > 100
    invited = Search(links, tmp_path)

    found: list[str] = []
    searched: dict[str, bool] = {}  # whether the search could have found something: what each kind of place must have
    for place, content in places(stack, handed_out["database"]):
        found += [f"{name} in {place}" for name in secrets.find(content)]
        if not place.startswith("mail/"):
            found += [f"{name} in {place}" for name in invited.find(content)]
        kind = place.split()[0].split("/")[0]
        known = (
            tenant.encode() in content
            or handed_out["user"].encode() in content
            or tenant.replace("-", "").encode() in content
        )
        searched[kind] = searched.get(kind, False) or known
    assert not found, found
    for kind in ("pg_dump", "pg_dumpall", "topic", "logs", "mail", "postgres"):
        assert searched.get(kind), f"{kind} does not even name the tenant: the search is broken ({searched})"


def test_the_search_would_find_a_secret_in_any_form(stack: Stack, tmp_path: Path) -> None:
    secret = b"correct+horse/battery=staple"
    search = Search({"it": secret}, tmp_path)
    hidden = [secret, base64.b64encode(b"a" + secret + b"z"), base64.urlsafe_b64encode(b"{" + secret),
              secret.hex().encode(), b"correct%2Bhorse%2Fbattery%3Dstaple", b"\0\xff" + secret + b"\n"]  # fmt: skip
    assert [search.find(b"before " + each + b" after") for each in hidden] == [["it"]] * len(hidden)
    assert search.find(b"correct horse battery staple") == []
