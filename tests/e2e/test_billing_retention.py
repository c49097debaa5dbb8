"""What billing does not keep of people, and what it forgets in time. PostgreSQL and `tenantry init`; what is old is made old by the
test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .billing_books import BUILD, Books, books_of
from .secret_search import Search
from .stripe_life import Life, Object, read_events
from .test_catalog import one

PERSON = {
    "mail": b"ada.lovelace@pharmacy.example",
    "name": b"Ada Augusta Lovelace",
    "street": b"12 Saint James Square",
    "telephone": b"+44 20 7946 0815",
    "last digits": b"98765",
}
MAIL, NAME, STREET, TELEPHONE, DIGITS = (word.decode() for word in PERSON.values())


@pytest.fixture(scope="module")
def books() -> Iterator[Books]:
    with books_of("retention") as books:
        yield books


def told_of_a_person(life: Life, at: int) -> list[Object]:
    """A life at Stripe, each object with what it says of people there."""
    customer = f"cus_{life.number}"
    address = {"line1": STREET, "city": "London", "country": "GB"}
    details = {"address": address, "email": MAIL, "name": NAME, "phone": TELEPHONE}
    card = {"brand": "visa", "last4": DIGITS}
    method = {
        "id": f"pm_{life.number}_card", "object": "payment_method", "customer": customer, "created": at, "type": "card",
        "card": card, "billing_details": details,
    }  # fmt: skip
    owner = {
        "id": customer, "object": "customer", "created": at, "email": MAIL, "name": NAME, "phone": TELEPHONE,
        "address": address, "shipping": {"name": NAME, "address": address}, "description": NAME,
        "invoice_settings": {"default_payment_method": method["id"]}, "metadata": life.metadata,
    }  # fmt: skip
    session = {**life.session(), "customer_details": details, "customer_email": MAIL}
    charge = {
        "id": f"ch_{life.number}", "object": "charge", "customer": customer, "amount": 9900, "currency": "usd",
        "billing_details": details, "receipt_email": MAIL, "payment_method_details": {"type": "card", "card": card},
    }  # fmt: skip
    whose: dict[str, Any] = {
        "customer_email": MAIL,
        "customer_name": NAME,
        "customer_address": address,
        "customer_phone": TELEPHONE,
    }
    return [
        life.event("customer.updated", at, owner),
        life.event("payment_method.attached", at, method),
        life.event("checkout.session.completed", at, session),
        life.event("charge.succeeded", at, charge),
        life.event("customer.subscription.updated", at, life.subscription("past_due", start=at, description=NAME)),
        life.event("invoice.payment_failed", at, life.invoice("first", "open", at, **whose)),
    ]


def in_billing(books: Books) -> bytes:
    """All rows of the catalog's part of billing."""
    tables = books.owner.execute("select tablename from pg_tables where schemaname = 'billing'").fetchall()
    rows = [row[0] for (table,) in tables for row in books.owner.execute(f"select t::text from billing.{table} t")]
    return "\n".join(rows).encode()


def objects(books: Books, tenant: str) -> dict[str, Any]:
    rows = books.owner.execute("select kind, body from billing.object where tenant_id = %s", [tenant])
    return {kind: body for kind, body in rows.fetchall()}


def prune(books: Books) -> None:
    for _ in range(100):
        if one(books.billing, "select prune()") == 0:
            return
    raise AssertionError("pruning comes to no end")


def deprovisioned(books: Books, tenant: str, days: float = 0) -> None:
    books.owner.execute("update tenant set state = 'deprovisioned' where tenant_id = %s", [tenant])
    books.take_news()
    books.owner.execute(
        "update billing.tenant set gone_at = gone_at - %s * interval '1 day' where tenant_id = %s", [days, tenant]
    )


def test_nothing_of_what_stripe_tells_about_people_is_in_the_catalog(books: Books, tmp_path: Path) -> None:
    search = Search(PERSON, tmp_path)
    tenant = books.tenant()
    events = told_of_a_person(books.life(tenant), int(books.now()))
    assert search.find(json.dumps(events).encode()) == sorted(PERSON), "they would be found"
    books.apply(*events, {**events[0], "id": "evt_foreign", "account": "acct_other"})
    assert objects(books, tenant).keys() == {
        "customer", "payment_method", "checkout.session", "charge", "subscription", "invoice"
    }  # fmt: skip
    assert search.find(in_billing(books)) == []


def before_this_release(books: Books, events: list[Object]) -> None:
    """Applies events as the programs of the release before read them: with the whole body."""
    for read, event in zip(read_events(BUILD, events), events, strict=True):
        read["object"]["body"] = event["data"]["object"]
        books.billing.execute("select apply_event(%s, '{}')", [json.dumps(read)])


def test_what_programs_of_the_release_before_store_is_shortened(books: Books, tmp_path: Path) -> None:
    search = Search(PERSON, tmp_path)
    tenant = books.tenant()
    life = books.life(tenant)
    before_this_release(books, told_of_a_person(life, int(books.now())))
    assert search.find(in_billing(books)) == []
    kept = objects(books, tenant)
    assert kept["payment_method"]["created"] and kept["customer"]["metadata"] == {"tenant_id": tenant}


def test_what_was_stored_before_is_shortened_in_pieces_and_no_state_changes(books: Books, tmp_path: Path) -> None:
    search = Search(PERSON, tmp_path)
    tenant = books.tenant()
    life, now = books.life(tenant), int(books.now())
    books.owner.execute("alter table billing.object disable trigger shorten")
    before_this_release(books, told_of_a_person(life, now))
    books.owner.execute("alter table billing.object enable trigger shorten")
    books.owner.execute(  # as the migration does
        "insert into billing.long_body select kind, object_id from billing.object "
        "where body ?| billing.personal_members()"
    )
    states = "select jsonb_agg(to_jsonb(o) - 'body' order by kind) from billing.object o where tenant_id = %s"
    before = one(books.owner, states, tenant)
    assert search.find(in_billing(books)) != []
    assert one(books.billing, "select shorten_bodies(2)") == 2
    prune(books)
    assert search.find(in_billing(books)) == []
    assert one(books.owner, states, tenant) == before
    assert one(books.owner, "select count(*) from billing.long_body") == 0


def test_a_deleted_tenant_is_forgotten_after_thirty_days_and_nobody_else_is(books: Books) -> None:
    gone, lives = books.tenant(), books.tenant()
    now = int(books.now())
    for tenant in (gone, lives):
        books.apply(*told_of_a_person(books.life(tenant), now))
        books.settle(mails=False)
        books.pass_days(0.01)

    def left(tenant: str) -> list[Any]:
        tables = ("object", "mail", "payment", "customer")
        return [one(books.owner, f"select count(*) from billing.{t} where tenant_id = %s", tenant) for t in tables]

    whole = [6, 1, 1, 1]
    assert left(gone) == left(lives) == whole
    deprovisioned(books, gone, days=29)
    prune(books)
    assert left(gone) == whole, "not yet"
    books.owner.execute("update billing.tenant set gone_at = gone_at - interval '2 days' where tenant_id = %s", [gone])
    told = "select subscription from billing.tenant where tenant_id = %s"
    before = one(books.owner, told, gone)
    prune(books)
    assert left(gone) == [1, 0, 0, 1] and left(lives) == whole
    assert objects(books, gone) == {"subscription": {}}
    books.billing.execute("select settle(%s, '{}')", [gone])
    assert one(books.owner, told, gone) == before, "what it was does not change"


def test_what_is_told_of_a_forgotten_tenant_is_forgotten_again_and_nothing_of_it_is_missed(books: Books) -> None:
    tenant, now = books.tenant(), int(books.now())
    life = books.life(tenant)
    books.apply(*told_of_a_person(life, now))
    ended = life.event(
        "customer.subscription.deleted", now + 9, life.subscription("canceled", start=now, ended_at=now + 9)
    )
    books.apply(ended)
    deprovisioned(books, tenant, days=31)
    prune(books)
    [read] = read_events(BUILD, [ended])
    classes = (
        "select drift_classes(o, %s) from billing.object o where kind = 'subscription' and tenant_id = %s",
        json.dumps(read["object"]), tenant,
    )  # fmt: skip
    assert one(books.billing, *classes) == [], "a comparison finds what Stripe still lists"
    books.apply(life.event("invoice.voided", now + 60, life.invoice("first", "void", now)))
    assert objects(books, tenant).keys() == {"subscription", "invoice"}
    prune(books)
    assert objects(books, tenant).keys() == {"subscription"}


def test_a_card_that_was_taken_from_a_forgotten_customer_is_forgotten_too(books: Books) -> None:
    tenant, now = books.tenant(), int(books.now())
    life = books.life(tenant)
    events = told_of_a_person(life, now)
    detached = {**events[1]["data"]["object"], "customer": None}
    books.apply(*events, life.event("payment_method.detached", now + 5, detached))
    left = f"select count(*) from billing.object where object_id = '{detached['id']}'"
    prune(books)
    assert one(books.owner, left) == 1
    deprovisioned(books, tenant, days=31)
    prune(books)
    assert one(books.owner, left) == 0


def test_events_are_forgotten_after_400_days_in_pieces(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.life(tenant), int(books.now())
    books.apply(*told_of_a_person(life, now))
    mine = "select count(*) from billing.event where tenant_id = %s"
    books.owner.execute("delete from billing.event where tenant_id is distinct from %s", [tenant])
    books.owner.execute("update billing.event set at = now() - interval '399 days' where tenant_id = %s", [tenant])
    prune(books)
    assert one(books.owner, mine, tenant) == 6
    books.owner.execute("update billing.event set at = now() - interval '401 days' where tenant_id = %s", [tenant])
    assert one(books.billing, "select forget_events(2)") == 2
    books.apply(life.event("customer.updated", now + 1, {"id": f"cus_{life.number}", "object": "customer"}))
    prune(books)
    assert one(books.owner, mine, tenant) == 1, "the new one"


def differences(books: Books, events: list[Object]) -> list[tuple[str, str]]:
    """As `tenantry billing verify` compares: all of it once more, from these events."""
    with books.owner.transaction(force_rollback=True):
        books.owner.execute("select billing.make_replica('replica')")
        books.owner.execute("set local search_path = replica, durable")
        books.owner.execute("select take_missing(%s)", [json.dumps(read_events(BUILD, events))])
        found = "select kind, verdict from billing.replica_differences('replica', true) order by 1"
        return [(row[0], row[1]) for row in books.owner.execute(found)]


def test_what_only_one_release_knows_of_an_object_and_what_was_forgotten_is_no_difference() -> None:
    with books_of("replica") as books:
        tenant, now = books.tenant(), int(books.now())
        life = books.life(tenant)
        events = told_of_a_person(life, now)
        books.apply(*events)
        assert differences(books, events) == []
        changed = "update billing.object set facts = facts {} where kind = 'subscription'"
        books.owner.execute(changed.format("- 'default_payment_method'"))
        assert differences(books, events) == []
        books.owner.execute(changed.format("""|| '{"status": "unpaid"}'"""))
        assert ("subscription", "different") in differences(books, events)
        books.owner.execute(changed.format("""|| '{"status": "past_due"}'"""))
        books.owner.execute("delete from billing.object where kind = 'invoice'")
        assert ("invoice", "different") in differences(books, events)
        deprovisioned(books, tenant, days=31)
        prune(books)
        assert differences(books, events) == []
