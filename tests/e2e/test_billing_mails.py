"""Mails about billing on a real stack: what a mailbox gets, and what a kill, a mail server or an outage must not change."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Service, Stack

from .billing import Desk, billing_stack
from .client import eventually
from .command import refused
from .conftest import SHORT_LEASE
from .mail_server import mail_server
from .service_faults import armed, died_of_sigkill, stopped, told


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack(LEASE=SHORT_LEASE)


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack)


@pytest.fixture
def billing(stack: Stack) -> Service:
    return stack.services["billing-0"]


def shop(desk: Desk, name: str) -> str:
    tenant = desk.api.ready_tenant(f"{name.title()} & Sons", email=f"ada@{name}.test", name="Ada")
    eventually(lambda: desk.sql("select 1 from billing.tenant where tenant_id = %s and ready_at is not null", tenant), 20,
               "billing knows that it is ready")  # fmt: skip
    return tenant


def box(desk: Desk, name: str) -> list[Any]:
    """What came about billing, in the sandbox's mailbox."""
    mails = desk.stack.control_sandbox("GET", f"mail?to=ada@{name}.test")
    return [mail for mail in mails if "billing@" in mail["from"]]


def arrives(desk: Desk, name: str, count: int, word: str) -> Any:
    """The newest mail, once there are so many."""
    found = eventually(lambda: len(mails := box(desk, name)) == count and mails, 30, f"{count} mails to {name}")
    assert word in found[-1]["subject"], found[-1]
    return found[-1]


def to_renewal(desk: Desk, tenant: str) -> None:
    """Time passes until a bit more than the hour after a month's end in which Stripe leaves an invoice open to changes."""
    [days] = desk.sql(
        "select extract(epoch from %s - catalog.business_now()) / 86400", desk.subscription(tenant)["period_end"]
    )
    desk.pass_days(float(days) + 0.06)


def remind(desk: Desk, tenant: str) -> None:
    """Its trial ends in less than two days."""
    desk.sql(
        "update billing.tenant set ready_at = catalog.business_now() - interval '12 days 1 hour' where tenant_id = %s "
        "returning 1",
        tenant,
    )


def message_ids(desk: Desk, tenant: str) -> list[str]:
    return [str(row) for row in desk.sql("select message_id from billing.mail where tenant_id = %s", tenant)]


def state(desk: Desk, tenant: str) -> list[str]:
    return [str(row) for row in desk.sql("select state from billing.mail where tenant_id = %s order by due_at", tenant)]


def test_a_trial_is_told_of_its_end_and_then_that_it_has_ended(desk: Desk) -> None:
    tenant = shop(desk, "early")
    desk.pass_days(12.1)
    mail = arrives(desk, "early", 1, "ends in 2 days")
    assert mail["subject"] == "Your trial of Early & Sons ends in 2 days"
    assert "Hello Ada," in mail["text"] and "Early &amp; Sons" in mail["html"]
    assert f"{desk.api.url}/billing/{tenant}." in mail["text"]
    desk.pass_days(2)
    mail = arrives(desk, "early", 2, "cannot be used")
    assert "no plan was chosen" in mail["text"] and "{{" not in mail["text"] + mail["html"]
    desk.subscribe(tenant)
    desk.wait(tenant, status="active")


def test_whoever_never_pays_is_told_twice_and_archived_with_an_export(desk: Desk) -> None:
    tenant = shop(desk, "forgotten")
    desk.pass_days(14.1)
    desk.wait_access(tenant, "none")
    desk.pass_days(29.5)
    arrives(desk, "forgotten", 4, "is closed in 1 day")
    assert [mail["subject"] for mail in box(desk, "forgotten")] == [
        "Your trial of Forgotten & Sons ends in 2 days",
        "Forgotten & Sons cannot be used any more",
        "Forgotten & Sons is closed in 7 days",
        "Forgotten & Sons is closed in 1 day",
    ]
    assert desk.api.tenant(tenant)["state"] == "ready"
    desk.pass_days(0.5)
    desk.api.wait_state(tenant, "archived")
    assert desk.sql("select kind from provisioner.backup where tenant_id = %s", tenant) == ["archive"]


def test_a_renewal_that_fails_is_told_until_it_is_paid(desk: Desk) -> None:
    tenant = shop(desk, "failing")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    to_renewal(desk, tenant)
    desk.wait(tenant, status="past_due")
    mail = arrives(desk, "failing", 1, "The payment for Failing & Sons failed")
    assert "99.00 USD" in mail["text"]
    desk.pass_days(3)
    arrives(desk, "failing", 2, "failed")
    desk.pass_days(3)
    mail = arrives(desk, "failing", 3, "failed")
    assert "in 1 day" in mail["text"] or "hours" in mail["text"]
    desk.pass_days(1.2)
    mail = arrives(desk, "failing", 4, "cannot be used")
    assert "is not paid" in mail["text"]
    desk.pay_with(subscription["customer"], "pm_card_visa")
    desk.wait(tenant, status="active")
    desk.wait_access(tenant, "full")
    assert len(box(desk, "failing")) == 4


def failed(desk: Desk, name: str) -> tuple[str, Any]:
    """A tenant whose renewal has failed, and its subscription."""
    tenant = shop(desk, name)
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    to_renewal(desk, tenant)
    desk.wait(tenant, status="past_due")
    return tenant, subscription


def payments(desk: Desk, subscription: Any) -> list[Any]:
    """What was asked of Stripe: to pay an invoice of this subscription."""
    invoices = desk.sql("select object_id from billing.object where kind = 'invoice' and customer_id = %s",
                        subscription["customer"])  # fmt: skip
    asked = desk.stack.control_sandbox("GET", "requests?path=/v1/invoices/.*/pay&method=POST")
    return [request for request in asked if any(str(invoice) in request["path"] for invoice in invoices)]


def test_a_new_card_pays_the_open_invoice_at_once_and_a_bad_one_is_tried_once(desk: Desk) -> None:
    tenant, subscription = failed(desk, "newcard")
    assert payments(desk, subscription) == [], "the card that failed is Stripe's to try again"
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    eventually(lambda: len(payments(desk, subscription)) == 1, 20, "another card is tried")
    desk.wait_for_deliveries()
    desk.pay_with(subscription["customer"], "pm_card_visa")
    desk.wait(tenant, status="active")
    assert len(payments(desk, subscription)) == 2


def test_a_kill_after_a_payment_pays_once(desk: Desk, billing: Service) -> None:
    tenant, subscription = failed(desk, "paidonce")
    with armed(billing, "billing_after_payment=crash"):
        desk.pay_with(subscription["customer"], "pm_card_visa")
        assert died_of_sigkill(billing)
        desk.sql("update billing.payment set taken_until = now() where tenant_id = %s returning 1", tenant)
    desk.wait(tenant, status="active")
    charges = desk.stripe("charges", "GET", customer=subscription["customer"])["data"]
    assert sum(charge["paid"] for charge in charges) == 2, "the first month and this one"


def test_a_bank_that_asks_for_its_customer_leads_to_the_invoices_page(desk: Desk) -> None:
    tenant = shop(desk, "careful")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.pay_with(subscription["customer"], "pm_card_authenticationRequired")
    to_renewal(desk, tenant)
    mail = arrives(desk, "careful", 1, "confirm the payment")
    [invoice] = desk.stripe("invoices", "GET", customer=subscription["customer"], status="open")["data"]
    assert invoice["hosted_invoice_url"] in mail["text"]
    desk.stripe(f"subscriptions/{subscription['id']}", "DELETE")


@pytest.mark.parametrize("where", ["mail_before_send", "mail_after_send"])
def test_a_kill_around_a_mail_makes_no_message_id_missing_and_none_new(
    desk: Desk, billing: Service, where: str
) -> None:
    name = where.replace("_", "-")
    tenant = shop(desk, name)
    with armed(billing, f"{where}=crash"):
        remind(desk, tenant)
        assert died_of_sigkill(billing)
    eventually(lambda: state(desk, tenant) == ["sent"], 30, "it is known to be sent")
    mails = box(desk, name)
    assert {each["message_id"].strip("<>") for each in mails} == set(message_ids(desk, tenant))
    assert len(mails) == (2 if where == "mail_after_send" else 1)


def test_a_mail_server_that_says_nothing_holds_up_mails_only(desk: Desk, billing: Service) -> None:
    tenants = {name: shop(desk, name) for name in ("hung-a", "hung-b", "hung-c", "hung-d", "hung-e")}
    with mail_server(hang=threading.Event()) as server, told(billing, SMTP_URL=server.url):
        for tenant in tenants.values():
            remind(desk, tenant)
        eventually(lambda: len(server.taken) == 4, 20, "as many are on their way as may be")
        other = shop(desk, "unhung")
        subscription = desk.subscribe(other)
        desk.wait(other, status="active")
        desk.stripe(f"subscriptions/{subscription['id']}", "DELETE")
        desk.wait(other, status="trial")
        assert billing.ready()
        assert server.hang is not None
        server.hang.set()
        eventually(lambda: all(state(desk, tenant) == ["sent"] for tenant in tenants.values()), 60, "all are sent")
        assert sorted(str(mail["message-id"]).strip("<>") for mail in server.taken) == sorted(
            identity for tenant in tenants.values() for identity in message_ids(desk, tenant)
        )


def test_a_mail_that_is_refused_goes_later_under_the_same_message_id(desk: Desk, billing: Service) -> None:
    tenant, gone = shop(desk, "refused"), shop(desk, "gone")
    with mail_server(refuse="451 later") as server, told(billing, SMTP_URL=server.url):
        remind(desk, tenant)
        remind(desk, gone)
        eventually(lambda: desk.sql("select 1 from billing.mail where tenant_id = %s and attempts > 1", tenant), 30,
                   "it is tried again")  # fmt: skip
        [subdomain] = desk.sql("select slug from provisioner.tenant where tenant_id = %s", gone)
        desk.api.done(gone, "deprovision", confirm=str(subdomain))
        server.refuse = ""
        eventually(lambda: state(desk, tenant) == ["sent"], 90, "it is sent")
        [mail] = server.mails_to("ada@refused.test")
        assert str(mail["message-id"]).strip("<>") == message_ids(desk, tenant)[0]
        eventually(lambda: state(desk, gone) == ["void"], 90, "who is gone gets none")
        assert server.mails_to("ada@gone.test") == []


def test_trials_that_ended_while_billing_was_down_wait_for_a_person(desk: Desk, billing: Service) -> None:
    names = [f"late-{letter}" for letter in "abcdefgh"]
    tenants = {name: shop(desk, name) for name in names}
    with stopped(billing):
        desk.sql(
            "update catalog.business_clock set ahead = ahead + interval '400 hours' returning 1"
        )  # sixteen days, of which the last two are after the trial
    held = "select 1 from billing.tenant where held and tenant_id = any (%s::uuid[])"
    eventually(lambda: len(desk.sql(held, list(tenants.values()))) == 8, 30, "all are held back")
    assert {desk.api.tenant(tenant)["access"]["wanted"] for tenant in tenants.values()} == {"full"}
    assert "billing-mass-suspension" in {alert["cause"] for alert in desk.api.get("/api/admin/alerts").json["items"]}
    assert [mail for name in names for mail in box(desk, name)] == [], "nobody is told what is not true"
    paying = tenants.pop("late-a")
    desk.subscribe(paying)
    desk.wait(paying, status="active")
    assert desk.stack.run_cli("billing", "release").returncode == 0
    for name, tenant in tenants.items():
        desk.wait(tenant, status="suspended")
        arrives(desk, name, 1, "cannot be used")
    assert box(desk, "late-a") == []


def test_every_mail_can_be_looked_at_in_our_words_and_in_ones_own(stack: Stack, tmp_path: Path) -> None:
    kinds = stack.run_cli("mail", "preview").stdout.split()
    assert "invitation" in kinds and "archive_notice" in kinds and len(kinds) == 7
    for kind in kinds:
        shown = stack.run_cli("mail", "preview", kind).stdout
        assert shown.startswith("Subject: ") and "Example & Daughters" in shown and "{{" not in shown
        assert stack.run_cli("mail", "preview", kind, "--html").stdout.startswith("<!doctype html>")
    tmp_path.joinpath("suspended.txt").write_text(
        "Subject: Zu\n\n{{company}} ist zu{{#not_paid}}: {{amount}}{{/not_paid}}\n"
    )
    tmp_path.joinpath("suspended.html").write_text("<p>{{company}} ist zu</p>")
    wrong = "suspended.txt line 3: there is no amount in this mail"
    refused(stack.run_cli("mail", "preview", "suspended", "--templates", str(tmp_path)), 1, wrong)
    checked = subprocess.run(
        [str(stack.build / "tenantry-billing"), "--check-config"],
        env={**stack.services["billing-0"].environment, "MAIL_TEMPLATES": str(tmp_path)},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert checked.returncode != 0 and wrong in checked.stderr
    tmp_path.joinpath("suspended.txt").write_text("Subject: Zu\n\n{{company}} ist zu\n")
    shown = stack.run_cli("mail", "preview", "suspended", "--templates", str(tmp_path)).stdout
    assert shown == "Subject: Zu\n\nExample & Daughters ist zu\n"
    refused(stack.run_cli("mail", "preview", "unheard-of"), 3, "unheard-of")
