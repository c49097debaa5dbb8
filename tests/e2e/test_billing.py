"""A tenant's subscription, from its trial to its end, on a real gateway, provisioner, Kafka and the sandbox's Stripe."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import eventually
from .command import answered, cli
from .faults import stopped as stopped_server
from .service_faults import stopped
from .stripe import Stripe, event
from .stripe_life import Life


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack()


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack)


def test_a_new_tenant_has_fourteen_days_of_starter_whatever_it_asked_for(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Trial Pharmacy", plan="enterprise")
    told = desk.wait(tenant, status="trial", plan="starter")
    assert told["modules"] == ["inventory", "sales", "purchases"]
    assert told["limits"] == {"branches": 1, "users": 5, "items": 10000}
    eventually(lambda: desk.subscription(tenant)["trial_end"], 20, "it begins once the tenant is ready")


def test_a_signup_that_is_refused_has_no_trial(desk: Desk) -> None:
    desk.api.ready_tenant("Only Pharmacy", subdomain="only-pharmacy")
    refused = desk.api.signup("Second Pharmacy", subdomain="only-pharmacy", prefer="wait=20")
    assert (refused.status, refused.json["code"]) == (409, "slug_taken")
    later = desk.api.ready_tenant("Later Pharmacy")  # of which billing hears after it
    desk.wait(later, status="trial")
    unknown = "select tenant_id from billing.tenant where tenant_id not in (select tenant_id from provisioner.tenant)"
    assert desk.sql(unknown) == [] and desk.sql("select event_id from billing.inbox where source <> '/stripe'") == []


def test_a_trial_that_ends_without_a_plan_suspends_and_a_subscription_brings_all_back(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Late Pharmacy")
    desk.wait(tenant, status="trial")
    desk.pass_days(14.1)
    told = desk.wait(tenant, status="suspended", reason="trial_ended")
    assert told["subscription"]["archive_at"] is not None
    desk.wait_access(tenant, "none")
    assert desk.api.tenant(tenant)["access"]["reason"] == "trial_ended"
    desk.subscribe(tenant, "professional")
    told = desk.wait(tenant, status="active", plan="professional", interval="month")
    assert "reports" in told["modules"] and told["subscription"]["archive_at"] is None
    desk.wait_access(tenant, "full")


def test_a_renewal_that_fails_is_past_due_then_suspended_and_paid_by_a_new_card(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Failing Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active", plan="starter")
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    desk.pass_days(31.2)  # Stripe leaves an invoice open to changes for an hour
    told = desk.wait(tenant, status="past_due", reason="payment_failed")
    assert told["subscription"]["grace_until"] is not None and told["access"]["wanted"] == "full"
    desk.pass_days(7.5)
    desk.wait(tenant, status="suspended", reason="payment_failed")
    desk.wait_access(tenant, "none")
    desk.pay_with(subscription["customer"], "pm_card_visa")
    desk.wait(tenant, status="active")
    desk.wait_access(tenant, "full")


def test_a_card_that_is_set_on_the_subscription_pays_what_is_open(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Portal Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")

    def set_card(card: str) -> str:
        method = desk.stripe(f"payment_methods/{card}/attach", customer=subscription["customer"])["id"]
        desk.stripe(f"subscriptions/{subscription['id']}", default_payment_method=method)
        return str(method)

    set_card("pm_card_chargeCustomerFail")
    desk.pass_days(31.2)
    desk.wait(tenant, status="past_due")
    new = set_card("pm_card_visa")
    desk.wait(tenant, status="active")
    tried = "select payment_method from billing.payment where tenant_id = %s and state = 'done'"
    assert desk.sql(tried, tenant) == [new]


def test_a_cancelled_subscription_lasts_to_its_periods_end(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Leaving Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.stripe(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
    told = desk.wait(tenant, status="active", cancel_at=desk.subscription(tenant)["period_end"])
    assert told["access"]["wanted"] == "full"
    desk.pass_days(31)
    desk.wait(tenant, status="cancelled")
    desk.wait_access(tenant, "none")


def test_what_is_refunded_or_disputed_at_stripe_is_an_alert_and_access_stays(desk: Desk, stack: Stack) -> None:
    refunded, disputed = desk.tenants_on_trial("Refunded Pharmacy", "Disputing Pharmacy")
    paid = {}
    for tenant in (refunded, disputed):
        customer = desk.subscribe(tenant)["customer"]
        desk.wait(tenant, status="active")
        [charge] = desk.stripe("charges", "GET", customer=customer, limit=10)["data"]
        paid[tenant] = charge["id"]
    desk.stripe("refunds", charge=paid[refunded], amount=5000)
    dispute = stack.control_sandbox("POST", "stripe/disputes", {"charge": paid[disputed]})
    alert = "select detail from catalog.alert where cause = %s and tenant_id = %s and resolved_at is null"

    def told(cause: str, tenant: str) -> str:
        return str(eventually(lambda: desk.sql(alert, cause, tenant), 30, f"the alert {cause}")[0])

    assert "50.00 USD of 99.00 USD" in told(f"billing-refund:{paid[refunded]}", refunded)
    assert paid[disputed] in told(f"billing-dispute:{dispute['id']}", disputed)
    desk.wait_for_deliveries()
    for tenant in (refunded, disputed):
        told_of = desk.api.tenant(tenant)
        assert (told_of["subscription"]["status"], told_of["access"]["wanted"]) == ("active", "full")


def test_what_became_of_each_event_is_told(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Told Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.wait_for_deliveries()
    listed = answered(cli(stack, "billing", "events", "--tenant", "told-pharmacy", "--json"))["items"]
    assert {event["tenant_id"] for event in listed} == {tenant}
    [made] = [event for event in listed if event["type"] == "customer.subscription.created"]
    assert made["outcome"] in ("applied", "stale") and made["object_id"] == subscription["id"] and made["api_version"]
    shown = cli(stack, "billing", "events", "--object", subscription["id"])
    assert shown.returncode == 0 and "customer.subscription.created" in shown.stdout
    again = cli(stack, "billing", "replay", str(made["number"]))
    assert again.returncode == 4 and "set aside" in again.stderr


def test_events_of_another_account_are_set_aside_and_applied_by_hand(desk: Desk, stack: Stack) -> None:
    told = event("evt_foreign", "cus_foreign", account="acct_other")
    assert Stripe(desk.api, desk.endpoint["secret"]).deliver(told).status == 200
    eventually(lambda: desk.sql("select event_id from billing.event where event_id = 'evt_foreign'"), 20, "it is taken")
    [listed] = answered(cli(stack, "billing", "events", "--outcome", "quarantined", "--json"))["items"]
    assert listed["event_id"] == "evt_foreign" and "acct_other" in listed["reason"]
    assert desk.sql("select object_id from billing.object where customer_id = 'cus_foreign'") == []
    assert "billing-quarantine" in cli(stack, "alerts").stdout
    again = cli(stack, "billing", "replay", str(listed["number"]))
    assert again.returncode == 4 and "set aside once more" in again.stderr
    desk.sql("update billing.event set kept = kept - 'account' where number = %s returning 1", listed["number"])
    assert cli(stack, "billing", "replay", str(listed["number"])).returncode == 0
    assert desk.sql("select outcome from billing.event where event_id = 'evt_foreign'") != ["quarantined"]


def test_trials_that_ended_in_an_outage_are_suspended_when_somebody_has_looked(desk: Desk, stack: Stack) -> None:
    tenants = [desk.api.ready_tenant(f"Crowd {number}") for number in range(7)]
    for tenant in tenants:
        desk.wait(tenant, status="trial")
    with stopped(stack.services["billing-0"]):
        desk.miss_days(15)
    eventually(lambda: len(answered(cli(stack, "billing", "held", "--json"))["items"]) == 7, 30, "they are held")
    assert {desk.subscription(tenant)["status"] for tenant in tenants} == {"trial"}
    assert "billing-mass-suspension" in cli(stack, "alerts").stdout
    assert cli(stack, "billing", "release").stdout == "7 suspensions released\n"
    for tenant in tenants:
        desk.wait(tenant, status="suspended", reason="trial_ended")
    assert "billing-mass-suspension" not in cli(stack, "alerts").stdout


def test_what_happened_while_kafka_was_away_comes_with_stripes_next_attempt(desk: Desk, stack: Stack) -> None:
    tenant = desk.tenant_on_trial("Patient Pharmacy")
    readers = [stack.services["provisioner-0"], stack.services["billing-0"]]
    for reader in readers:  # of a static member that is away for long another may have its place, so that it gives up
        reader.stop()
    with stopped_server(stack.kafka):
        subscription = desk.subscribe(tenant)
        sent = "stripe/deliveries"
        # One that was being handed over as Kafka went is answered later than Stripe waits.
        refused = lambda: [each for each in stack.control_sandbox("GET", sent) if each["status"] != 200]  # noqa: E731
        eventually(refused, 30, "Stripe was told to come again, or nothing")
        desk.miss_days(1)
    for reader in readers:
        reader.start()
        reader.wait_until_ready()
    desk.pass_days(1)
    desk.wait(tenant, status="active", plan="starter")
    found = "select count(*) from billing.event where object_id = %s and is_found"
    assert desk.sql(found, subscription["id"]) == [0], "none of it was looked for"


def test_two_states_of_one_second_are_asked_for_at_stripe(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Tie Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active", plan="starter")
    now = desk.stripe(f"subscriptions/{subscription['id']}", "GET")
    hook, created = Stripe(desk.api, desk.endpoint["secret"]), int(time.time()) + 400 * 86400
    for name, status in (("evt_tie_1", "past_due"), ("evt_tie_2", "unpaid")):
        told = event(name, created=created, data={"object": {**now, "status": status}})
        assert hook.deliver(told).status == 200
    outcome = "select outcome from billing.event where event_id = 'evt_tie_2'"
    eventually(lambda: desk.sql(outcome) == ["tie"], 20, "it is a tie")
    eventually(lambda: not desk.sql("select object_id from billing.wanted_object"), 20, "Stripe was asked")


def test_what_waits_of_a_tenant_is_taken_at_once(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Bursting Pharmacy")
    desk.wait(tenant, status="trial")
    hook, life = Stripe(desk.api, desk.endpoint["secret"]), Life(tenant=tenant, number="burst", start=int(time.time()))
    told = life.first_payment()
    with stopped(stack.services["billing-0"]):
        for each in told:
            assert hook.deliver(each).status == 200
    taken = "select xmin::text from billing.event where event_id like 'evt_burst_%%'"
    eventually(lambda: len(desk.sql(taken)) == len(told), 20, "all have been taken")
    assert len(set(desk.sql(taken))) <= 2, "the first is perhaps alone when it arrives, and waits for nobody"
    desk.wait(tenant, status="active")


def test_a_thin_event_is_followed_by_its_object(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Thin Pharmacy")
    with desk.endpoint_disabled():
        subscription = desk.subscribe(tenant)
    thin = {
        "id": "evt_thin", "object": "v2.core.event", "type": "v1.customer.subscription.updated", "livemode": False,
        "created": "2026-11-30T12:00:00.000Z",
        "related_object": {
            "id": subscription["id"], "type": "subscription", "url": f"/v1/subscriptions/{subscription['id']}"
        },
    }  # fmt: skip
    assert Stripe(desk.api, desk.endpoint["secret"]).deliver(thin).status == 200
    desk.wait(tenant, status="active", plan="starter")


def test_what_is_too_old_is_forgotten_without_being_asked(desk: Desk, stack: Stack) -> None:
    old = (
        "insert into billing.event (event_id, number, type, outcome, at) overriding system value "
        "values ('evt_aged', 0, 'customer.updated', 'applied', now() - interval '401 days') returning event_id"
    )
    assert desk.sql(old) == ["evt_aged"]
    with stopped(stack.services["billing-0"]):
        pass
    eventually(lambda: not desk.sql("select 1 from billing.event where number = 0"), 40, "it is forgotten")
