"""What ends access and when it counts as ended, money that comes after that, and what is still sold. PostgreSQL and `tenantry init`;
time passes as the test says."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from .billing_books import BUILD, DAY, PLANS, Books, books_of
from .conftest import bare_catalog
from .stripe_life import Life, read_events
from .test_billing_dunning import TRIAL, chooses, tried
from .test_catalog import as_service, command, make_ready, one, sign_up

ALERT = "select title || ': ' || detail from alert where cause = %s and resolved_at is null"


@pytest.fixture(scope="module")
def shared() -> Iterator[Books]:
    with books_of("ends") as books:
        yield books


@pytest.fixture
def books(shared: Books) -> Books:
    """With as many others beside that five of these are no mass."""
    shared.owner.execute("truncate billing.mail, billing.wanted_object")
    shared.owner.execute("update lifecycle_wanted set since = '-infinity'")
    shared.owner.execute(
        "update billing.tenant set lifecycle = 'gone', suspended_at = null, held = false, access_until = null"
    )
    shared.owner.execute("delete from timer")
    shared.resolve_alerts()
    shared.sent.clear()
    shared.billing.execute("select configure(%s, false), know_stripe(false)", [json.dumps(PLANS)])
    return shared


def told(books: Books, cause: str) -> str:
    found = books.owner.execute(ALERT, [cause]).fetchone()
    return str(found[0]) if found else ""


def ask(books: Books, tenant: str, kind: str, **data: Any) -> tuple[str, str | None]:
    """What becomes of a command."""
    event = {"id": str(uuid.uuid4()), "source": "/test", "type": f"billing.{kind}.requested.v1", "traceparent": None}
    data = {"tenant_id": tenant, "by": "ada", "reason": "order 4711", **data}
    books.billing.execute("select accept_command(%s, %s)", [json.dumps(event), json.dumps(data)])
    found = books.owner.execute("select state, code from operation where operation_id = %s", [event["id"]]).fetchone()
    assert found
    return str(found[0]), found[1]


def cancel(books: Books, life: Life, began: int, reason: str | None = None) -> int:
    now = int(books.now())
    gone = life.subscription("canceled", start=began, ended_at=now, cancellation_details={"reason": reason})
    books.apply(life.event("customer.subscription.deleted", now, gone))
    return now


def pay_late(books: Books, life: Life, began: int) -> None:
    now = int(books.now())
    paid = life.invoice("second", "paid", began, 5, amount_paid=9900, amount_remaining=0)
    paid["status_transitions"]["paid_at"] = now
    books.apply(life.event("invoice.paid", now, paid))


def not_paid(books: Books) -> tuple[str, Life, int]:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    return tenant, life, books.fail(life)


# What Stripe may say besides.


def test_a_status_that_stripe_has_only_since_keeps_the_access_there_is(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now())
    books.apply(life.event("customer.subscription.updated", now + 1, life.subscription("dormant", start=now)))
    told_of = books.subscription(tenant)
    assert (told_of["status"], told_of["reason"], told_of["plan"]) == ("active", "unknown_status", "starter")
    assert books.fact(tenant, "access") == "full"


def test_a_subscription_that_is_paused_has_no_access_until_it_goes_on(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now())
    books.apply(life.event("customer.subscription.paused", now + 1, life.subscription("paused", start=now)))
    books.pass_days(0.1)
    assert (books.subscription(tenant)["status"], books.subscription(tenant)["reason"]) == ("suspended", "paused")
    assert books.fact(tenant, "access") == "none"
    later = int(books.now())
    books.apply(life.event("customer.subscription.resumed", later, life.subscription("active", start=now)))
    assert books.subscription(tenant)["status"] == "active" and books.fact(tenant, "access") == "full"


# When access ended.


def test_stripe_giving_a_subscription_up_moves_neither_the_end_of_access_nor_the_archive(books: Books) -> None:
    tenant, life, began = not_paid(books)
    books.pass_days(15)
    archive_at = books.subscription(tenant)["archive_at"]
    cancel(books, life, began, "payment_failed")
    assert books.subscription(tenant)["archive_at"] == archive_at
    books.pass_days(22.1)
    assert books.wish(tenant) == "archived"
    mails = [(mail.kind, mail.step, round((mail.at - began) / DAY)) for mail in books.sent[3:]]
    assert mails == [("suspended", 0, 7), ("archive_notice", 7, 30), ("archive_notice", 1, 36)]


def test_an_invoice_that_was_written_off_long_ago_shortens_no_later_grace_and_no_later_end(books: Books) -> None:
    tenant, life, began = not_paid(books)
    books.apply(life.event("invoice.marked_uncollectible", began + 9, life.invoice("second", "uncollectible", began)))
    books.pass_days(5)
    now = int(books.now())
    books.apply(
        life.event("invoice.paid", now, life.invoice("third", "paid", now, amount_paid=9900)),
        life.event("customer.subscription.updated", now, life.subscription("active", start=now)),
    )
    books.pass_days(60)
    again = books.fail(life, "fourth")
    assert books.subscription(tenant)["status"] == "past_due" and books.fact(tenant, "access") == "full"
    books.pay(life, again, "fourth")
    ended = cancel(books, life, again)
    assert books.fact(tenant, "extract(epoch from access_ended)::float8") == ended


def test_access_that_came_back_and_ended_in_one_batch_has_ended_anew(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(14 + 25)  # a notice was sent, and three weeks are over
    assert books.mails(tenant)[-1] == ("archive_notice", 7)
    now = int(books.now())
    life = Life(tenant=tenant, number="again", start=now - 60)
    gone = life.subscription("canceled", ended_at=now)
    books.apply_together(
        life.event("customer.subscription.updated", now - 60, life.subscription("active")),
        life.event("customer.subscription.deleted", now, gone),
    )
    assert books.fact(tenant, "extract(epoch from access_ended)::float8") == now
    books.pass_days(29.9)
    assert books.wish(tenant) is None, "it has another month"
    assert books.mails(tenant)[-3:] == [("suspended", 0), ("archive_notice", 7), ("archive_notice", 1)]
    books.pass_days(1.1)
    assert books.wish(tenant) == "archived"


def test_several_tenants_of_a_batch_are_settled_each_and_one_that_is_refused_takes_none_of_it(books: Books) -> None:
    tenants = [books.tenant() for _ in range(3)]
    lives, now = [books.life(each) for each in tenants], int(books.now())
    events = [
        life.event("customer.subscription.updated", now, life.subscription("active", start=now)) for life in lives
    ]
    refused = "create function public.refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$"
    books.owner.execute(refused)
    books.owner.execute(
        "create trigger refuse before update on billing.tenant for each row "
        f"when (new.tenant_id = '{tenants[2]}') execute function public.refuse()"
    )
    try:
        with pytest.raises(psycopg.errors.RaiseException):
            books.apply_together(*events)
        assert {books.subscription(each)["status"] for each in tenants} == {"trial"}, "it is tried again, one by one"
    finally:
        books.owner.execute("drop function public.refuse cascade")
    books.apply_together(*events)
    assert {books.subscription(each)["status"] for each in tenants} == {"active"}


def test_an_invoice_that_wants_its_customer_is_told_though_the_batch_changes_nothing_else(books: Books) -> None:
    tenant, life, began = not_paid(books)
    books.settle()
    before, now = len(books.mails(tenant)), int(books.now())
    invoice = life.invoice("second", "open", began, amount_remaining=9900)
    books.apply_together(
        life.event("customer.subscription.updated", now, life.subscription("active", start=began)),
        life.event("invoice.payment_action_required", now, invoice),
        life.event("customer.subscription.updated", now + 1, life.subscription("past_due", start=began)),
    )
    books.settle()
    assert books.mails(tenant)[before:] == [("payment_action_required", 0)]
    books.pass_days(6.1)
    assert [kind for kind, _ in books.mails(tenant)].count("payment_failed") == 2, "days 3 and 6"


@pytest.mark.parametrize("why", ["it is paid by invoice", "only a change was not paid"])
def test_news_of_a_subscription_do_not_prolong_its_grace(books: Books, why: str) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    now = int(books.now())
    if why == "it is paid by invoice":
        invoice = life.invoice("second", "open", now - 14 * DAY, 0, collection_method="send_invoice", due_date=now)
    else:
        invoice = life.invoice("second", "open", now, 1, billing_reason="subscription_update")
    books.apply(
        life.event("invoice.overdue", now, invoice),
        life.event("customer.subscription.updated", now + 1, life.subscription("past_due", start=now)),
    )
    grace = books.subscription(tenant)["grace_until"]
    books.pass_days(3)
    later = life.subscription("past_due", start=now, description="a note")
    books.apply(life.event("customer.subscription.updated", int(books.now()), later))
    assert books.subscription(tenant)["grace_until"] == grace
    books.pass_days(4.1)
    assert books.fact(tenant, "access") == "none"


def test_an_override_that_is_removed_ended_when_it_was_removed_and_is_followed_by_notices_of_its_own(
    books: Books,
) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 29.5)
    assert [mail.step for mail in books.sent if mail.kind == "archive_notice"] == [7, 1]
    assert ask(books, tenant, "override", plan="starter") == ("succeeded", None)
    books.pass_days(40)
    assert books.fact(tenant, "access") == "full"
    books.sent.clear()
    assert ask(books, tenant, "override", remove=True) == ("succeeded", None)
    removed = books.now()
    assert books.fact(tenant, "access") == "none"
    books.pass_days(29.9)
    assert books.wish(tenant) is None
    assert [(mail.kind, mail.step, round((mail.at - removed) / DAY)) for mail in books.sent] == [
        ("suspended", 0, 0), ("archive_notice", 7, 23), ("archive_notice", 1, 29)
    ]  # fmt: skip
    books.pass_days(0.2)
    assert books.wish(tenant) == "archived"


def test_an_override_with_an_end_is_not_the_end_of_access_that_is_paid_for(books: Books) -> None:
    tenant = books.tenant()
    books.subscribe(tenant)
    assert ask(books, tenant, "override", plan="starter", until="2099-01-01T00:00:00Z") == ("succeeded", None)
    assert "access_until" not in books.subscription(tenant)
    trying = books.tenant()
    assert ask(books, trying, "override", plan="starter", until="2099-01-01T00:00:00Z") == ("succeeded", None)
    assert books.subscription(trying)["access_until"].startswith("2099-01-01")


def test_a_clock_that_goes_back_gives_access_back_that_its_leap_has_taken(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(1)
    before = one(books.owner, "select ahead from business_clock")
    books.leap_days(20)
    books.settle()
    assert books.fact(tenant, "access") == "none"
    books.owner.execute("update business_clock set ahead = %s", [before])
    books.settle()
    assert books.fact(tenant, "access") == "full"


# Money.


def test_money_for_a_subscription_that_stripe_has_given_up_is_told(books: Books) -> None:
    tenant, life, began = not_paid(books)
    books.pass_days(20)
    cancel(books, life, began, "payment_failed")
    books.pass_days(1)
    pay_late(books, life, began)
    alert = told(books, f"billing-late-money:{tenant}")
    assert f"in_{life.number}_second" in alert and f"tenantry billing override {tenant}" in alert


def test_money_is_told_too_if_stripe_tells_of_the_end_last(books: Books) -> None:
    tenant, life, began = not_paid(books)
    books.pass_days(20)
    ended = int(books.now())
    books.pass_days(1)
    pay_late(books, life, began)
    assert told(books, f"billing-late-money:{tenant}") == ""
    gone = life.subscription("canceled", start=began, ended_at=ended)
    books.apply(life.event("customer.subscription.deleted", ended, gone))
    assert told(books, f"billing-late-money:{tenant}") != ""


def test_a_last_payment_before_the_end_is_no_late_money(books: Books) -> None:
    tenant, life, began = not_paid(books)
    books.pass_days(3)
    pay_late(books, life, began)
    books.pass_days(1)
    cancel(books, life, began)
    assert books.fact(tenant, "access") == "none" and told(books, f"billing-late-money:{tenant}") == ""


def archived(books: Books, tenant: str) -> None:
    books.owner.execute("update tenant set state = 'archived' where tenant_id = %s", [tenant])
    books.take_news()


@pytest.mark.parametrize("by", ["billing", "an operator"])
def test_one_who_pays_after_the_archive_leads_to_one_alert(books: Books, by: str) -> None:
    tenant, life, began = not_paid(books)
    if by == "billing":
        books.pass_days(38)
        assert books.wish(tenant) == "archived"
    else:
        command(books.operator, tenant, "archive")
    archived(books, tenant)
    pay_late(books, life, began)
    books.apply(
        life.event(
            "customer.subscription.updated", int(books.now()), life.subscription("active", start=int(books.now()))
        )
    )
    books.settle()
    causes = {cause for cause in books.alerts() if tenant in cause and not cause.startswith("billing-end")}
    assert causes == {f"billing-{'paid-archived' if by == 'billing' else 'late-money'}:{tenant}"}
    if by == "billing":
        assert f"tenantry archive restore {tenant}" in told(books, f"billing-paid-archived:{tenant}")


def test_a_subscription_under_another_tenants_customer_ends_with_its_own_tenant(books: Books) -> None:
    owner, sharing = sorted([books.tenant(), books.tenant()])  # of two that claim one in the same second
    life, now = books.subscribe(owner), int(books.now())
    sold = {**Life(tenant=sharing, number="sold").subscription("active", start=now), "customer": f"cus_{life.number}"}
    books.apply(life.event("customer.subscription.created", now, sold))
    assert books.subscription(sharing)["status"] == "active"
    assert (
        one(books.owner, "select tenant_id::text from billing.customer where customer_id = %s", sold["customer"])
        == owner
    )
    archived(books, sharing)
    assert sold["id"] in told(books, f"billing-end:{sharing}"), "billing has no key here: a person is asked"
    assert told(books, f"billing-end:{owner}") == "" and books.subscription(owner)["status"] == "active"


def test_one_who_pays_while_the_archive_is_under_way_is_told_when_that_is_done(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 30.1)
    assert books.wish(tenant) == "archived"
    books.take_news()
    books.subscribe(tenant)
    books.settle()
    assert books.wish(tenant) == "live"
    books.take_news()
    assert books.fact(tenant, "lifecycle") == "live" and told(books, f"billing-paid-archived:{tenant}") == ""
    archived(books, tenant)  # what had begun was finished
    assert f"tenantry archive restore {tenant}" in told(books, f"billing-paid-archived:{tenant}")
    books.resolve_alerts()
    books.take_news()
    assert told(books, f"billing-paid-archived:{tenant}") == ""


def answer(books: Books, object_: dict[str, Any], seen: int) -> None:
    """As Stripe answers when it is asked for what an event did not carry."""
    [event] = read_events(BUILD, [Life().event("x.y", seen, object_)])
    books.billing.execute("select want_object(%s, %s, null, 'thin')", [object_["object"], object_["id"]])
    version = one(books.owner, "select version from billing.wanted_object where object_id = %s", object_["id"])
    books.billing.execute(
        "select answered(%s, %s, %s, %s, %s)",
        [object_["object"], object_["id"], version, json.dumps(event["object"]), seen],
    )


def test_money_that_goes_back_is_told_also_if_its_event_says_nothing(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now())
    charge = {
        "id": f"ch_{life.number}", "object": "charge", "customer": f"cus_{life.number}", "amount": 9900,
        "amount_refunded": 0, "currency": "usd", "status": "succeeded",
    }  # fmt: skip
    answer(books, charge, now)
    assert books.alerts() == set()
    answer(books, {**charge, "amount_refunded": 2500}, now + 5)
    assert "25.00 USD of 99.00 USD" in told(books, f"billing-refund:ch_{life.number}")
    books.resolve_alerts()
    answer(books, {**charge, "amount_refunded": 2500}, now + 9)
    assert books.alerts() == set(), "it was told"
    dispute = {
        "id": f"dp_{life.number}",
        "object": "dispute",
        "charge": f"ch_{life.number}",
        "amount": 9900,
        "currency": "usd",
    }
    answer(books, dispute, now + 9)
    assert (
        one(books.owner, "select tenant_id::text from alert where cause = %s", f"billing-dispute:dp_{life.number}")
        == tenant
    )


def test_a_dispute_finds_out_whose_payment_it_is_about(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now())
    dispute = {
        "id": f"dp_{life.number}",
        "object": "dispute",
        "charge": f"ch_{life.number}",
        "amount": 9900,
        "currency": "usd",
    }
    books.apply(life.event("charge.dispute.created", now, dispute))
    whose = "select tenant_id::text from alert where cause = %s and resolved_at is null"
    assert one(books.owner, whose, f"billing-dispute:dp_{life.number}") is None
    assert [why for _, why in wanted(books, f"ch_{life.number}")] == ["dispute"]
    charge = {
        "id": f"ch_{life.number}",
        "object": "charge",
        "customer": f"cus_{life.number}",
        "amount": 9900,
        "amount_refunded": 0,
    }
    answer(books, charge, now + 1)
    assert one(books.owner, whose, f"billing-dispute:dp_{life.number}") == tenant
    assert one(
        books.owner,
        "select tenant_id::text from billing.object where kind = 'dispute' and object_id = %s",
        dispute["id"],
    )


def test_who_pays_by_invoice_is_told_each_time(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    for name in ("second", "third"):
        books.pass_days(31)
        now = int(books.now())
        due = {"collection_method": "send_invoice", "due_date": now}
        books.apply(
            life.event("invoice.overdue", now, life.invoice(name, "open", now, 0, **due)),
            life.event("customer.subscription.updated", now, life.subscription("past_due", start=now)),
        )
        books.pass_days(1)
        assert books.mails(tenant) == [("payment_failed", 0)] * (1 if name == "second" else 2)
        books.pay(life, now, name)


# What is sold.


def test_another_length_of_the_trial_counts_for_those_who_are_on_it(books: Books) -> None:
    on_trial, ended = books.tenant(), books.tenant()
    books.pass_days(10)
    books.owner.execute(
        "update billing.tenant set ready_at = ready_at - interval '6 days' where tenant_id = %s", [ended]
    )
    books.billing.execute("select settle(%s, '{}')", [ended])
    assert books.fact(ended, "access") == "none"
    before = books.subscription(on_trial)["trial_end"]
    books.billing.execute(
        "select configure(%s, false)", [json.dumps({**PLANS, "trial": {"plan": "starter", "days": 30}})]
    )
    books.settle()
    assert books.fact(ended, "access") == "full"
    assert books.subscription(on_trial)["trial_end"] > before


def test_a_price_that_is_not_in_the_plans_any_more_is_not_sold_and_keeps_its_subscribers(books: Books) -> None:
    tenant, buyer = books.tenant(), books.tenant()
    books.subscribe(tenant)
    plan: Any = list(PLANS["plans"])[0]
    price = {"lookup_key": "starter_of_2027", "amount": 12000}
    changed = {**PLANS, "currency": "usd", "plans": [{**plan, "prices": {"month": price}}]}
    with_year = {
        **PLANS,
        "plans": [{**plan, "prices": {**plan["prices"], "year": {"lookup_key": "tenantry_starter_year"}}}],
    }
    for plans in (with_year, changed):
        books.billing.execute("select configure(%s, false), know_stripe(true)", [json.dumps(plans)])
    shown = one(books.owner, "select item -> 'plans' from gateway.billing_page where tenant_id = %s", buyer)
    assert shown == [{"id": "starter", "name": "Starter", "periods": ["month"], "prices": {"month": "120.00 USD"}}]
    assert ask(books, buyer, "checkout", plan="starter", interval="year") == ("rejected", "not_sold")
    assert ask(books, buyer, "checkout", plan="starter", interval="month") == ("accepted", None)
    asked = one(books.owner, "select data ->> 'lookup_key' from billing.request where tenant_id = %s", buyer)
    assert asked == "starter_of_2027"
    assert books.subscription(tenant)["plan"] == "starter"


def test_one_tenant_cannot_have_any_number_of_requests_wait(books: Books) -> None:
    tenant = books.tenant()
    books.billing.execute("select know_stripe(true)")
    most = one(books.billing, "select requests_most()")
    asked = [ask(books, tenant, "checkout", plan="starter", interval="month") for _ in range(most + 1)]
    assert asked[-2:] == [("accepted", None), ("rejected", "too_many_requests")]


# What is asked of Stripe.


def wanted(books: Books, id_: str) -> list[tuple[Any, ...]]:
    return books.owner.execute("select version, why from billing.wanted_object where object_id = %s", [id_]).fetchall()


def test_an_answer_to_an_earlier_question_does_not_pass_for_one_to_a_later(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    ask_for = "select want_object('subscription', %s, null, 'tie')"
    books.billing.execute(ask_for, [f"sub_{life.number}"])
    [(version, _)] = wanted(books, f"sub_{life.number}")
    answered = "select fetched('subscription', %s, %s, null, 0)"
    books.billing.execute(answered, [f"sub_{life.number}", version])
    assert wanted(books, f"sub_{life.number}") == []
    books.billing.execute(ask_for, [f"sub_{life.number}"])
    books.billing.execute(answered, [f"sub_{life.number}", version])  # of a process that was frozen
    assert wanted(books, f"sub_{life.number}") != []


def test_an_answer_older_than_the_two_events_of_a_second_does_not_decide_between_them(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now()) + 60
    one_way, other = life.subscription("active", start=now, cancel_at=now + 9), life.subscription("active", start=now)
    books.apply(
        life.event("customer.subscription.updated", now, one_way),
        life.event("customer.subscription.updated", now, other),
    )
    [event] = read_events(BUILD, [life.event("x.y", now, other)])
    for seen, left in ((now - 1, True), (now + 1, False)):
        [(version, _)] = wanted(books, f"sub_{life.number}")
        books.billing.execute(
            "select answered('subscription', %s, %s, %s, %s)",
            [f"sub_{life.number}", version, json.dumps(event["object"]), seen],
        )
        assert bool(wanted(books, f"sub_{life.number}")) == left
    assert "cancel_at" not in books.subscription(tenant)


def test_what_stripe_does_not_answer_for_long_is_told_until_it_does(books: Books) -> None:
    books.billing.execute("select want_object('charge', 'ch_mute', null, 'thin')")
    look = "select look_for_faults(%s)"
    for attempts in (9, 10):
        books.owner.execute("update billing.wanted_object set attempts = %s, error = 'no right'", [attempts])
        books.billing.execute(look, [int(books.now())])
        assert ("billing-unanswered:ch_mute" in books.alerts()) == (attempts == 10)
    books.owner.execute("delete from billing.wanted_object")
    books.billing.execute(look, [int(books.now())])
    assert "billing-unanswered:ch_mute" not in books.alerts()


def test_a_tenant_with_whom_something_is_wrong_does_not_keep_the_others_from_their_trials(books: Books) -> None:
    bad, good = (sign_up(books.operator, slug=f"shop-{uuid.uuid4().hex[:12]}") for _ in range(2))
    life, now = Life(tenant=bad, number="odd"), int(books.now())
    odd = life.subscription("trialing", trial_end=10**17, start=now)
    books.apply(life.event("customer.subscription.updated", now, odd))
    for tenant in (bad, good):
        make_ready(books.owner, tenant)
    books.take_news()
    assert books.subscription(good)["trial_end"]
    assert f"billing-news:{bad}" in books.alerts()
    books.apply(life.event("customer.subscription.updated", now + 1, life.subscription("active", start=now)))
    books.owner.execute("update billing.tenant_news set at = now()")
    books.take_news()
    assert books.subscription(bad)["status"] == "active" and books.alerts() == set()


def test_no_card_pays_for_a_subscription_that_has_ended_meanwhile(books: Books) -> None:
    tenant, life, began = not_paid(books)
    books.apply(*chooses(books, life, "new", int(books.now()) + 1))
    cancel(books, life, began)
    assert tried(books) == []


def test_an_event_that_is_set_aside_once_more_is_not_called_applied(books: Books) -> None:
    life, now = Life(number="aside"), int(books.now())
    customer = {"id": "cus_aside", "object": "customer"}
    other_mode = life.event("customer.updated", now, customer, livemode=True)
    huge = life.event("customer.subscription.updated", now, life.subscription("trialing", trial_end=10**17, start=now))
    huge["data"]["object"]["metadata"] = {"tenant_id": books.tenant()}
    books.apply(other_mode)
    [event] = read_events(BUILD, [huge])
    assert one(books.billing, "select take_missing(%s)", json.dumps([event])) == 1, "it is set aside, not lost"
    replay = "select catalog.replay_stripe_event((select number from billing.event where event_id = %s), 'ada')"
    for each in (other_mode, huge):
        assert one(books.owner, replay, each["id"]) == "set_aside_again"
        assert one(books.owner, "select outcome from billing.event where event_id = %s", each["id"]) == "quarantined"
    other = "select configure(%s, true)"
    books.subscribe(books.tenant())
    with pytest.raises(psycopg.errors.RaiseException, match="subscriptions of test mode"):
        books.billing.execute(other, [json.dumps(PLANS)])
    books.owner.execute("update billing.object set is_terminal = true where kind = 'subscription'")
    books.billing.execute(other, [json.dumps(PLANS)])
    assert one(books.owner, replay, other_mode["id"]) == "replayed"


def test_before_the_mode_is_known_no_event_is_set_aside(books: Books) -> None:
    with bare_catalog("modeless") as stack, as_service(stack, "billing") as billing:
        life = Life()
        [event] = read_events(
            BUILD, [life.event("customer.updated", 1760000000, {"id": "cus_1", "object": "customer"})]
        )
        with pytest.raises(psycopg.errors.ObjectInUse):
            billing.execute("select apply_event(%s, '{}')", [json.dumps(event)])
        billing.execute("select configure(%s, false)", [json.dumps(PLANS)])
        billing.execute("select apply_event(%s, '{}')", [json.dumps(event)])
        assert one(billing, "select outcome from event") == "parked"


@pytest.fixture
def before_billing(books: Books) -> Iterator[str]:
    """A tenant that was there before billing was."""
    since = one(books.owner, "select since from billing.settings")
    tenant = sign_up(books.operator, slug=f"old-{uuid.uuid4().hex[:12]}", company="Old Pharmacy")
    make_ready(books.owner, tenant)
    books.owner.execute("update billing.settings set since = clock_timestamp()")
    yield tenant
    books.owner.execute("update billing.settings set since = %s", [since])


def test_who_was_here_before_billing_may_use_what_any_plan_has_until_it_subscribes(
    books: Books, before_billing: str
) -> None:
    books.take_news()
    books.pass_days(100)
    assert books.subscription(before_billing)["reason"] == "exempt" and books.fact(before_billing, "access") == "full"
    entitled = books.fact(before_billing, "entitled")
    assert (entitled["plan"], entitled["modules"], entitled["limits"]) == (None, ["sales"], {})
    assert books.mails(before_billing) == []
    books.subscribe(before_billing)
    assert books.fact(before_billing, "entitled")["plan"] == "starter"


def test_who_was_here_before_billing_has_a_trial_from_its_beginning_where_that_is_wanted(
    books: Books, before_billing: str
) -> None:
    books.billing.execute("select take_news(1000, true)")
    assert books.subscription(before_billing)["status"] == "trial"
    books.pass_days(14.1)
    assert books.subscription(before_billing)["reason"] == "trial_ended"
    assert books.fact(before_billing, "access") == "none"
