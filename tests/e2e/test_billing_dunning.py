"""What follows when nobody pays: which mails are due when, who is archived, and what an outage, a leap of the clock or a fault
must not do. PostgreSQL and `tenantry init`; time passes as the test says."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator

import pytest

from .billing_books import BUILD, DAY, Books, books_of
from .stripe_life import Life, Object, read_events
from .test_catalog import command, one

TRIAL = 14


@pytest.fixture(scope="module")
def shared() -> Iterator[Books]:
    with books_of("dunning") as books:
        yield books


@pytest.fixture
def books(shared: Books) -> Books:
    """With as many others beside that five of these are no mass."""
    shared.owner.execute("truncate billing.mail")
    shared.owner.execute("update lifecycle_wanted set since = '-infinity'")
    shared.owner.execute("delete from timer")
    shared.owner.execute("update billing.tenant set lifecycle = 'gone'")  # those of earlier tests
    shared.owner.execute("delete from timer")
    shared.resolve_alerts()
    shared.sent.clear()
    return shared


def test_a_trials_end_is_told_two_days_before_it_once(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL - 2.01)
    assert books.mails(tenant) == []
    books.pass_days(0.02)
    assert books.mails(tenant) == [("trial_ending", 0)]
    assert books.last(tenant).facts["left"] == "2 days"
    books.pass_days(1.9)
    assert books.mails(tenant) == [("trial_ending", 0)]
    books.pass_days(0.2)
    assert books.mails(tenant) == [("trial_ending", 0), ("suspended", 0)]
    assert books.subscription(tenant)["reason"] == "trial_ended" and books.last(tenant).facts["trial_ended"] == "yes"


def test_who_has_chosen_is_not_reminded(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(3)
    books.subscribe(tenant)
    books.pass_days(20)
    assert books.mails(tenant) == []


def test_a_reminder_that_waits_is_void_when_a_plan_is_chosen_and_goes_when_that_is_taken_back(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL - 1.5, mails=False)
    life = books.subscribe(tenant)
    assert books.send() == 0
    assert one(books.owner, "select state from billing.mail") == "void"
    now = int(books.now())
    books.apply(
        life.event("customer.subscription.deleted", now, life.subscription("canceled", start=now, ended_at=now))
    )
    assert books.subscription(tenant)["status"] == "trial"
    books.settle()
    assert books.mails(tenant) == [("trial_ending", 0)]


def test_a_late_reminder_says_how_much_is_left_when_it_goes_and_none_goes_when_nothing_is(books: Books) -> None:
    tenant, later = books.tenant(), books.tenant()
    books.pass_days(TRIAL - 0.95, mails=False)
    [mail] = [mail for mail in books.take() if mail.tenant == tenant]
    assert mail.facts["left"] == "1 day"
    books.pass_days(1, mails=False)
    books.owner.execute("update billing.mail set taken_until = null")
    assert [mail.kind for mail in books.take() if mail.tenant == later] == ["suspended"]


def test_a_failed_renewal_is_told_on_day_0_3_6_and_the_suspension_on_day_7(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    began = books.fail(life)
    books.pass_days(8)
    told = [(mail.kind, mail.step, round((mail.at - began) / DAY, 1)) for mail in books.sent]
    assert told == [("payment_failed", 0, 0), ("payment_failed", 3, 3), ("payment_failed", 6, 6), ("suspended", 0, 7)]
    assert [mail.facts.get("left") for mail in books.sent[:3]] == ["7 days", "4 days", "1 day"]
    assert {mail.facts["amount"] for mail in books.sent[:3]} == {"99.00 USD"}
    assert books.last(tenant).facts["not_paid"] == "yes"
    books.pay(life, began)
    assert books.fact(tenant, "access") == "full"
    books.pass_days(20)
    assert len(books.sent) == 4, "who has paid is told no more"


def test_a_payment_ends_the_mails_of_its_invoice_and_the_next_invoice_has_its_own(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    began = books.fail(life)
    books.pass_days(4)
    books.pay(life, began)
    books.pass_days(27)
    books.fail(life, "third")
    books.pass_days(1)
    assert books.mails(tenant) == [("payment_failed", 0), ("payment_failed", 3), ("payment_failed", 0)]
    assert len({mail.message_id for mail in books.sent}) == 3


def test_a_bank_that_asks_for_its_customer_makes_another_mail_on_day_0(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    began = books.fail(life, action=True)
    books.pass_days(1)
    assert books.mails(tenant) == [("payment_action_required", 0)]
    assert books.last(tenant).facts["invoice"] == f"in_{life.number}_second"
    books.pass_days(3)
    assert books.mails(tenant) == [("payment_action_required", 0), ("payment_failed", 3)]
    books.pay(life, began)


def test_a_first_payment_that_needs_its_customer_is_no_mail(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.life(tenant), int(books.now())
    invoice = life.invoice("first", "open", now, billing_reason="subscription_create")
    books.apply(
        life.event("customer.subscription.created", now, life.subscription("incomplete", start=now)),
        life.event("invoice.payment_failed", now, invoice),
        life.event("invoice.payment_action_required", now, invoice),
    )
    books.pass_days(1)
    assert books.mails(tenant) == []


def test_after_an_outage_only_the_newest_of_the_mails_goes(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    books.fail(life)
    books.leap_days(6.5)
    books.settle()
    assert books.mails(tenant) == [("payment_failed", 6)]
    assert books.last(tenant).facts["left"] == "12 hours"


def test_access_that_ended_leads_to_two_notices_and_then_to_the_archive(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 29.9)
    ended = books.fact(tenant, "extract(epoch from access_ended)::float8")
    told = [(mail.kind, mail.step, round((mail.at - ended) / DAY, 1)) for mail in books.sent[1:]]
    assert told == [("suspended", 0, 0), ("archive_notice", 7, 23), ("archive_notice", 1, 29)]
    assert [mail.facts["left"] for mail in books.sent[2:]] == ["7 days", "1 day"]
    assert books.wish(tenant) is None
    books.pass_days(0.2)
    assert books.wish(tenant) == "archived"
    books.take_news()
    assert books.subscription(tenant)["status"] == "archived"
    books.pass_days(60)
    assert len(books.sent) == 4, "whoever is archived gets no mail"


def test_a_cancelled_subscription_is_archived_thirty_days_after_its_periods_end(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(30)
    now = int(books.now())
    books.apply(life.event("customer.subscription.deleted", now, life.subscription("canceled", ended_at=now)))
    books.pass_days(29.9)
    assert books.mails(tenant) == [("suspended", 0), ("archive_notice", 7), ("archive_notice", 1)]
    assert books.last(tenant).facts["cancelled"] == "yes" and books.wish(tenant) is None
    books.pass_days(0.2)
    assert books.wish(tenant) == "archived"


def test_who_was_suspended_stays_so_when_stripe_gives_the_payment_up_and_is_archived_by_the_first_end(
    books: Books,
) -> None:
    """Whether Stripe's clock is a moment ahead of ours or not."""
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    books.fail(life)
    books.pass_days(14)
    ended, now = books.fact(tenant, "access_ended"), int(books.now())
    gone = life.subscription("canceled", ended_at=now + 5, cancellation_details={"reason": "payment_failed"})
    books.apply(life.event("customer.subscription.deleted", now + 5, gone))
    assert books.fact(tenant, "access") == "none", "five seconds of access are none"
    books.pass_days(22.9)
    told = [("payment_failed", 0), ("payment_failed", 3), ("payment_failed", 6), ("suspended", 0)]
    assert books.mails(tenant) == [*told, ("archive_notice", 7), ("archive_notice", 1)]
    assert books.fact(tenant, "access_ended") == ended and books.wish(tenant) is None
    books.pass_days(0.2)
    assert books.wish(tenant) == "archived", "thirty days after access ended"


def test_nobody_is_archived_whose_notice_was_not_delivered(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 60, mails=False)
    assert books.wish(tenant) is None
    books.settle()
    assert books.last(tenant).kind == "archive_notice" and books.last(tenant).facts["left"] == "1 day"
    books.pass_days(0.98)
    assert books.wish(tenant) is None, "not yet a day later"
    books.pass_days(0.04)
    assert books.wish(tenant) == "archived"


def test_time_that_nobody_watched_does_not_count_after_a_notice(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 23.5)
    assert books.last(tenant).step == 7
    books.leap_days(20)
    books.begin()
    books.settle()
    assert books.wish(tenant) is None, "twelve hours have been watched"
    books.pass_days(0.45)
    assert books.wish(tenant) is None
    books.pass_days(0.1)
    assert books.wish(tenant) == "archived"


def test_a_payment_before_the_archive_takes_the_wish_back(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 30.1)
    assert books.wish(tenant) == "archived"
    books.subscribe(tenant)
    books.settle()
    assert books.wish(tenant) == "live"
    books.take_news()
    assert books.subscription(tenant)["status"] == "active" and books.fact(tenant, "access") == "full"


def test_a_payment_after_the_archive_is_told_by_alert(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 30.1)
    books.owner.execute("update tenant set state = 'archived' where tenant_id = %s", [tenant])
    books.take_news()
    books.subscribe(tenant)
    books.settle()
    assert f"billing-paid-archived:{tenant}" in books.alerts()


def test_an_archive_that_a_person_took_back_is_not_wanted_again(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL + 30.1)
    books.owner.execute("update tenant set state = 'archived' where tenant_id = %s", [tenant])
    books.owner.execute("select bring_to_life(t) from tenant t where tenant_id = %s", [tenant])
    books.owner.execute("update tenant set state = 'ready' where tenant_id = %s", [tenant])
    books.take_news()
    books.sent.clear()
    books.pass_days(90)
    assert books.wish(tenant) == "live" and books.sent == []


@pytest.mark.parametrize("wanted", ["archive", "deprovision"])
def test_tenants_that_were_archived_or_deleted_meanwhile_get_no_mail(books: Books, wanted: str) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL - 1, mails=False)
    slug = one(books.owner, "select slug from tenant where tenant_id = %s", tenant)
    command(books.operator, tenant, wanted, **({"confirm": slug} if wanted == "deprovision" else {}))
    assert books.send() == 0, "before billing has taken the news"
    books.take_news()
    books.pass_days(60)
    assert books.sent == []


def test_tenants_that_were_deleted_do_not_hold_up_the_end_of_a_living_ones_trial(books: Books) -> None:
    tenants = [books.tenant() for _ in range(9)]
    for tenant in tenants[1:]:
        slug = one(books.owner, "select slug from tenant where tenant_id = %s", tenant)
        command(books.operator, tenant, "deprovision", confirm=slug)
    books.take_news()
    books.pass_days(TRIAL + 1)
    assert books.fact(tenants[0], "access") == "none"
    assert "billing-mass-suspension" not in books.alerts()


def test_a_tenant_that_is_held_and_then_deleted_ends_its_subscription(books: Books) -> None:
    tenants = [books.tenant() for _ in range(8)]
    lives = [books.subscribe(tenant) for tenant in tenants]
    books.pass_days(1)
    for life in lives:
        books.fail(life)
    books.pass_days(8)
    assert books.fact(tenants[7], "held")
    slug = one(books.owner, "select slug from tenant where tenant_id = %s", tenants[7])
    command(books.operator, tenants[7], "deprovision", confirm=slug)
    books.take_news()
    asked = books.owner.execute("select kind from billing.request where tenant_id = %s", [tenants[7]]).fetchall()
    assert asked == [("end_subscription",)] or f"billing-end:{tenants[7]}" in books.alerts()


def test_300_trials_that_ended_in_a_weeks_outage_wait_for_a_person_and_lose_nothing(books: Books) -> None:
    tenants = [books.tenant(f"Shop {number}") for number in range(300)]
    books.pass_days(TRIAL - 3)
    books.leap_days(7)
    books.begin()
    books.settle()
    assert {books.fact(tenant, "access") for tenant in tenants} == {"full"} and books.sent == []
    assert "billing-mass-suspension" in books.alerts()
    books.pass_days(0.05)
    assert {books.fact(tenant, "access") for tenant in tenants} == {"full"}
    paying = tenants[:20]
    for tenant in paying:
        books.subscribe(tenant)
    books.owner.execute("select release_suspensions('ada')")
    books.settle()
    assert {books.fact(tenant, "access") for tenant in paying} == {"full"}
    assert {books.fact(tenant, "access") for tenant in tenants[20:]} == {"none"}
    assert sorted(mail.tenant for mail in books.sent) == sorted(tenants[20:])
    assert {mail.kind for mail in books.sent} == {"suspended"}
    books.pass_days(40, mails=False)
    assert {books.wish(tenant) for tenant in tenants} == {None}, "no notice was delivered"
    books.settle()
    books.pass_days(1.01)
    assert {books.wish(tenant) for tenant in tenants} == {None}, "so many at once wait for a person again"
    assert "billing-mass-archive" in books.alerts()
    assert one(books.owner, "select release_suspensions('ada')") == 280
    books.settle()
    assert {books.wish(tenant) for tenant in tenants[20:]} == {"archived"}
    assert {books.wish(tenant) for tenant in paying} == {None}
    told = [(mail.tenant, mail.kind, mail.step) for mail in books.sent]
    assert len(told) == len(set(told)), "each mail of one cause once"


def test_archives_one_after_another_are_many_at_once_too(books: Books) -> None:
    minute = 1 / 1440
    tenants = []
    for _ in range(8):
        tenants.append(books.tenant())
        books.pass_days(minute)
    books.pass_days(TRIAL)
    books.owner.execute("select release_suspensions('ada')")
    books.pass_days(30 - 9 * minute)
    for _ in range(20):
        books.pass_days(minute)
        books.take_news()
    assert [books.wish(tenant) for tenant in tenants] == ["archived"] * 5 + [None] * 3
    assert "billing-mass-archive" in books.alerts()
    assert one(books.owner, "select release_suspensions('ada')") == 3
    books.settle()
    assert {books.wish(tenant) for tenant in tenants} == {"archived"}


def test_what_stripe_refunds_or_somebody_disputes_is_told_and_changes_nothing(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now())
    charge = {
        "id": f"ch_{life.number}", "object": "charge", "customer": f"cus_{life.number}", "amount": 9900,
        "amount_refunded": 0, "currency": "usd", "status": "succeeded",
    }  # fmt: skip
    dispute = {
        "id": f"dp_{life.number}", "object": "dispute", "charge": charge["id"], "amount": 9900, "currency": "usd",
        "reason": "fraudulent", "status": "needs_response",
    }  # fmt: skip
    before = books.subscription(tenant)
    books.apply(
        life.event("charge.succeeded", now, charge),
        life.event("charge.dispute.created", now + 1, dispute),
        life.event("charge.refunded", now + 2, {**charge, "amount_refunded": 5000}),
    )
    told = dict(
        books.owner.execute(
            "select split_part(cause, ':', 1), detail from alert where resolved_at is null and tenant_id = %s", [tenant]
        ).fetchall()
    )
    assert set(told) == {"billing-refund", "billing-dispute"}
    assert "50.00 USD of 99.00 USD" in told["billing-refund"] and "fraudulent" in told["billing-dispute"]
    assert books.subscription(tenant) == before


def test_a_coupon_of_a_hundred_percent_is_a_subscription_without_a_payment(books: Books) -> None:
    tenant = books.tenant()
    life = books.life(tenant)
    for month in range(3):
        now = int(books.now())
        free = {"amount_due": 0, "amount_paid": 0, "amount_remaining": 0}
        reason = "subscription_cycle" if month else "subscription_create"
        invoice = life.invoice(str(month), "paid", now, attempts=0, billing_reason=reason, **free)
        begun = [
            life.event("customer.subscription.created", now, life.subscription("active", start=now)),
            life.event("checkout.session.completed", now, {**life.session(), "payment_status": "no_payment_required"}),
        ]
        renewed = [life.event("customer.subscription.updated", now, life.subscription("active", start=now))]
        books.apply(*(renewed if month else begun), life.event("invoice.paid", now, invoice))
        books.pass_days(30)
        assert (books.subscription(tenant)["status"], books.fact(tenant, "access")) == ("active", "full")
    assert books.mails(tenant) == [] and books.alerts() == set()


def test_after_a_gap_longer_than_stripe_keeps_events_the_subscriptions_are_compared_at_once(books: Books) -> None:
    next_page = "select run from reconcile_next(3600000, 86400000, 10000, 100) where kind = 'events'"
    books.billing.execute(next_page)
    now = int(time.time())
    gap = (
        "update billing.reconcile set run = null, done_until = %s, "
        "due_at = now() + case kind when 'events' then interval '0' else interval '1 day' end"
    )
    for days, at_once in ((29, False), (31, True)):
        books.owner.execute(gap, [now - days * DAY])
        run = one(books.billing, next_page)
        books.billing.execute("select reconcile_events(%s, 1, '[]', null, %s, 60, 3600000)", [run, now])
        due = "select due_at <= clock_timestamp() from billing.reconcile where kind = 'subscriptions'"
        assert one(books.owner, due) is at_once, days


def chooses(books: Books, life: Life, card: str, at: int) -> list[Object]:
    """A card is attached and becomes its customer's choice."""
    customer = f"cus_{life.number}"
    method = {"id": f"pm_{life.number}_{card}", "object": "payment_method", "customer": customer, "created": at}
    settings = {"default_payment_method": method["id"]}
    return [
        life.event("payment_method.attached", at, method),
        life.event("customer.updated", at, {"id": customer, "object": "customer", "invoice_settings": settings}),
    ]


def tried(books: Books) -> list[str]:
    """The cards with which billing would pay now."""
    taken = books.billing.execute("select payment_method from take_payments(10, 60000, 1000)").fetchall()
    return [str(row[0]).partition("_")[2].partition("_")[2] for row in taken]


def test_a_card_is_tried_at_once_if_it_was_chosen_since_the_payment_failed_and_only_once(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.apply(*chooses(books, life, "old", int(books.now())))
    books.pass_days(31)
    began = books.fail(life)
    assert tried(books) == [], "Stripe has tried it, and will again"
    books.pass_days(1)
    books.apply(*chooses(books, life, "new", int(books.now())))
    assert tried(books) == ["new"] and tried(books) == []
    books.apply(
        *chooses(books, life, "old", int(books.now()) + 1), *chooses(books, life, "newer", int(books.now()) + 2)
    )
    books.pay(life, began)
    assert tried(books) == [], "it is paid"


def test_a_card_that_is_known_before_the_failure_is_told_is_tried_if_it_is_younger(books: Books) -> None:
    tenant = books.tenant()
    life = books.subscribe(tenant)
    books.pass_days(31)
    now = int(books.now())
    books.apply(*chooses(books, life, "new", now + 5))
    books.apply(
        life.event("invoice.payment_failed", now, life.invoice("second", "open", now, amount_remaining=9900)),
        life.event("customer.subscription.updated", now, life.subscription("past_due", start=now)),
    )
    assert tried(books) == ["new"]


def pay_with(life: Life, card: str | None) -> str | None:
    return card and f"pm_{life.number}_{card}"


def answer(books: Books, life: Life, **created: int) -> list[str]:
    """Answers what Stripe is asked about cards; those that are not named here it does not have. Returns which they were."""
    asked = books.billing.execute(
        "select object_id, version from billing.wanted_object where kind = 'payment_method'"
    ).fetchall()
    for method, version in asked:
        card = method.rpartition("_")[2]
        found = None
        if card in created:
            [attached, _] = chooses(books, life, card, created[card])
            found = json.dumps(read_events(BUILD, [attached])[0]["object"])
        books.billing.execute(
            "select answered('payment_method', %s, %s, %s, %s)", [method, version, found, int(books.now()) + 3600]
        )
    return sorted(str(method).rpartition("_")[2] for method, _ in asked)


@pytest.mark.parametrize("knows_old", [True, False], ids=["known_before", "never_told_before"])
@pytest.mark.parametrize("chosen_for", ["customer", "subscription", "both"])
def test_in_every_order_of_the_burst_the_new_card_is_tried_once_and_the_one_that_failed_is_not(
    books: Books, chosen_for: str, knows_old: bool
) -> None:
    of_customer, of_subscription = chosen_for != "subscription", chosen_for != "customer"
    began = int(books.now())
    lives = []
    for _ in itertools.permutations(range(4)):
        life = books.life(books.tenant())
        attached, chosen = chooses(books, life, "old", began)
        if not of_customer:
            chosen["data"]["object"]["invoice_settings"]["default_payment_method"] = None
        own = pay_with(life, "old" if of_subscription else None)
        paid = life.subscription("active", start=began, default_payment_method=own)
        told = [attached, chosen] if knows_old else []
        books.apply(*told, life.event("customer.subscription.updated", began, paid))
        lives.append(life)
    books.pass_days(31)
    failed = int(books.now())
    chosen_at = failed + 60
    for life, order in zip(lives, itertools.permutations(range(4)), strict=True):
        attached, chosen = chooses(books, life, "new", chosen_at)
        if not of_customer:
            chosen["data"]["object"] |= {"invoice_settings": {"default_payment_method": None}, "phone": "1"}
        own = pay_with(life, "new" if of_subscription else None)
        overdue = life.subscription("past_due", start=failed, default_payment_method=own)
        burst = [
            life.event("invoice.payment_failed", failed, life.invoice("second", "open", failed, amount_remaining=9900)),
            life.event("customer.subscription.updated", chosen_at, overdue),
            attached,
            chosen,
        ]
        books.apply(*(burst[place] for place in order))
        tries = tried(books)
        answer(books, life, old=began, new=chosen_at)
        assert tries + tried(books) == ["new"], order
        books.apply(*(burst[place] for place in reversed(order)))
        assert tried(books) == [], order


def test_a_card_whose_age_nobody_was_told_is_asked_for_once_and_tried_if_it_is_young(books: Books) -> None:
    for created, tries in ((-60, []), (60, ["new"]), (None, [])):
        tenant = books.tenant()
        life = books.subscribe(tenant)
        books.pass_days(31)
        began = books.fail(life)
        [_, chosen] = chooses(books, life, "new", began + 60)
        books.apply(chosen)
        assert tried(books) == []
        assert answer(books, life, **({} if created is None else {"new": began + created})) == ["new"]
        assert tried(books) == tries
        books.apply(life.event("customer.updated", began + 90, {**chosen["data"]["object"], "phone": "1"}))
        assert (answer(books, life), tried(books)) == ([], []), "it is not asked for again"
        books.pay(life, began)


def test_an_older_card_that_is_chosen_after_the_failure_is_tried_too(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now())
    books.apply(*chooses(books, life, "second", now), *chooses(books, life, "first", now + 1))
    books.pass_days(31)
    began = books.fail(life)
    [_, chosen] = chooses(books, life, "second", began + 60)
    books.apply(chosen)
    assert tried(books) == ["second"]
    books.pay(life, began)


def test_what_is_told_of_the_customer_later_does_not_make_the_card_that_failed_a_new_one(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.life(tenant), int(books.now())
    [attached, chosen] = chooses(books, life, "old", now)
    paid = life.subscription("active", start=now, default_payment_method=pay_with(life, "old"))
    books.apply(attached, life.event("customer.subscription.updated", now, paid))
    books.pass_days(31)
    now = int(books.now())
    overdue = life.subscription("past_due", start=now, default_payment_method=pay_with(life, "new"))
    [younger, _] = chooses(books, life, "new", now + 30)
    books.apply(
        life.event("invoice.payment_failed", now, life.invoice("second", "open", now, amount_remaining=9900)),
        younger,
        life.event("customer.subscription.updated", now + 30, overdue),
        life.event("customer.updated", now + 60, chosen["data"]["object"]),
    )
    assert tried(books) == ["new"]
    books.pay(life, now)


def test_a_subscriptions_card_that_failed_is_no_new_one_when_its_customer_chooses_it_too(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.life(tenant), int(books.now())
    [attached, chosen] = chooses(books, life, "old", now + 31 * DAY + 60)
    attached["data"]["object"]["created"] = now
    own = pay_with(life, "old")
    paid = life.subscription("active", start=now, default_payment_method=own)
    books.apply(*chooses(books, life, "first", now), attached, life.event("customer.subscription.updated", now, paid))
    books.pass_days(31)
    failed = int(books.now())
    overdue = life.subscription("past_due", start=failed, default_payment_method=own)
    books.apply(
        chosen,
        life.event("customer.subscription.updated", failed, overdue),
        life.event("invoice.payment_failed", failed, life.invoice("second", "open", failed)),
    )
    assert tried(books) == []
    books.pay(life, failed)


def test_a_choice_that_stripe_tells_when_it_is_asked_may_be_older_than_the_failure(books: Books) -> None:
    tenant = books.tenant()
    life, now = books.subscribe(tenant), int(books.now())
    [attached, old] = chooses(books, life, "old", now + 5)
    [_, other] = chooses(books, life, "other", now + 5)
    books.apply(*chooses(books, life, "first", now), attached, other, old)
    books.pass_days(31)
    failed = books.fail(life)
    customer = f"cus_{life.number}"
    [taken] = books.billing.execute(
        "select version from take_wanted(10, 60000, 1000) where object_id = %s", [customer]
    ).fetchall()
    [answered] = read_events(BUILD, [old])
    books.billing.execute(
        "select answered('customer', %s, %s, %s, %s)", [customer, *taken, json.dumps(answered["object"]), failed + 60]
    )
    assert one(
        books.owner, "select facts ->> 'default_payment_method' from billing.object where object_id = %s", customer
    ) == (pay_with(life, "old"))
    assert tried(books) == [], "it is the one that failed"
    books.pay(life, failed)


def test_a_card_of_a_subscription_that_the_release_before_has_stored_is_looked_for_in_its_body(books: Books) -> None:
    tenant = books.tenant()
    life = books.life(tenant)
    books.pass_days(31)
    failed = int(books.now())
    overdue = life.subscription("past_due", start=failed, default_payment_method=pay_with(life, "new"))
    [attached, _] = chooses(books, life, "new", failed + 30)
    books.apply(life.event("customer.subscription.updated", failed, overdue), attached)
    books.owner.execute(
        "update billing.object set facts = facts - 'default_payment_method' where object_id = %s",
        [f"sub_{life.number}"],
    )
    assert tried(books) == []
    books.apply(life.event("invoice.payment_failed", failed, life.invoice("second", "open", failed)))
    assert tried(books) == ["new"]
    books.pay(life, failed)


def test_a_refused_address_is_told_by_alert_and_a_mail_that_goes_ends_that(books: Books) -> None:
    tenant = books.tenant()
    books.pass_days(TRIAL - 1, mails=False)
    [mail] = books.take()
    books.billing.execute("select mail_failed(%s, 'no such person', 1000, 'address')", [mail.message_id])
    assert f"billing-mail:{tenant}" in books.alerts()
    assert books.take() == [], "not before its time"
    books.owner.execute("update billing.mail set next_at = now()")
    [again] = books.take()
    assert again.message_id == mail.message_id
    books.billing.execute("select mail_sent(%s)", [again.message_id])
    assert f"billing-mail:{tenant}" not in books.alerts()


def test_how_long_something_lasts_and_what_it_costs_are_said_as_people_say_it(books: Books) -> None:
    lasts = {"7 days": "7 days", "36 hours": "2 days", "35 hours": "1 day", "20 hours": "1 day", "19 hours": "19 hours",
             "80 minutes": "1 hour", "40 minutes": "less than an hour"}  # fmt: skip
    assert {left: one(books.billing, "select time_left(%s::interval)", left) for left in lasts} == lasts
    costs = {(9900, "usd"): "99.00 USD", (5, "eur"): "0.05 EUR", (500, "jpy"): "500 JPY", (1234, "kwd"): "1.234 KWD"}
    assert {cost: one(books.billing, "select amount_text(%s, %s)", *cost) for cost in costs} == costs
