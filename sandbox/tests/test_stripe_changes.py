"""Changes of a plan: prorated, pending until they are paid, or put off by a schedule; and money that goes back."""

from __future__ import annotations

from typing import Any

from .stripe_client import DAY, PRO, TEAM, Stripe, Tenant


def half_way(tenant: Tenant) -> int:
    """Moves the clock to the middle of the period, and returns that moment."""
    item = tenant.item()
    middle = (item["current_period_start"] + item["current_period_end"]) // 2
    tenant.stripe.pass_time(seconds=middle - tenant.stripe.now())
    return int(middle)


def test_an_upgrade_is_billed_at_once_for_the_rest_of_the_period_as_its_preview_said(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    wanted = {"proration_behavior": "always_invoice", "proration_date": half_way(tenant)}
    items = [{"id": tenant.item()["id"], "price": tenant.team["id"]}]
    preview = stripe.post(
        "invoices/create_preview", subscription=tenant.id, subscription_details={"items": items, **wanted}
    )
    assert preview["amount_due"] == (TEAM - PRO) // 2
    stripe.pass_time(seconds=30)
    tenant.to_team(payment_behavior="pending_if_incomplete", **wanted)
    invoice = tenant.invoices()[1]
    assert (invoice["status"], invoice["total"], invoice["billing_reason"]) == (
        "paid",
        preview["total"],
        "subscription_update",
    )
    lines = invoice["lines"]["data"]
    assert [line["amount"] for line in lines] == [-PRO // 2, TEAM // 2]
    assert all(line["parent"]["subscription_item_details"]["proration"] for line in lines)
    assert (tenant.plan(), tenant.now()["pending_update"]) == ("team", None)
    assert "customer.subscription.pending_update_applied" not in stripe.types()
    before = tenant.item()["current_period_end"]
    tenant.to_period_end(3700)
    assert (tenant.invoices()[2]["total"], tenant.item()["current_period_start"]) == (TEAM, before)


def test_a_preview_leaves_nothing_behind(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    count = len(stripe.events())
    items = [{"price": tenant.team["id"], "quantity": 2}]
    preview = stripe.post("invoices/create_preview", subscription=tenant.id, subscription_details={"items": items})
    assert preview["total"] >= PRO + 2 * TEAM and "number" in preview
    assert len(tenant.now()["items"]["data"]) == 1 and len(stripe.events()) == count
    assert stripe.refused("GET", f"invoices/{preview['id']}")[0] == 404


def test_an_upgrade_that_is_not_paid_stays_pending_with_the_old_plan(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    half_way(tenant)
    tenant.pays_with("pm_card_chargeCustomerFail")
    wanted = {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
    shown = tenant.to_team(**wanted)
    pending = shown["pending_update"]
    assert pending["subscription_items"][0]["price"]["id"] == tenant.team["id"]
    assert (tenant.plan(), tenant.status(), tenant.invoices()[1]["status"]) == ("pro", "active", "open")
    tenant.pays_with("pm_card_visa")
    stripe.post(f"invoices/{shown['latest_invoice']}/pay")
    assert (tenant.plan(), tenant.now()["pending_update"]) == ("team", None)
    assert "customer.subscription.pending_update_applied" in stripe.types()


def test_a_pending_update_expires_and_its_invoice_is_void(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    tenant.pays_with("pm_card_chargeCustomerFail")
    wanted: dict[str, Any] = {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
    expires = tenant.to_team(**wanted)["pending_update"]["expires_at"]
    assert stripe.refused("POST", f"subscriptions/{tenant.id}", metadata={"a": "b"}, **wanted)[0] == 400
    stripe.pass_time(days=1)
    assert (tenant.plan(), tenant.now()["pending_update"], tenant.invoices()[1]["status"]) == ("pro", None, "void")
    (expired,) = stripe.events(type="customer.subscription.pending_update_expired")
    assert expired["created"] == expires


def test_a_later_change_leaves_the_older_open_invoice_to_its_owner(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    tenant.pays_with("pm_card_chargeCustomerFail")
    wanted = {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
    older = tenant.to_team(**wanted)["latest_invoice"]
    newer = tenant.change(items=[{"id": tenant.item()["id"], "quantity": 3}], **wanted)["latest_invoice"]
    assert [stripe.get(f"invoices/{each}")["status"] for each in (older, newer)] == ["open", "open"]
    assert stripe.post(f"invoices/{older}/void")["status"] == "void"
    assert tenant.now()["pending_update"]["subscription_items"][0]["quantity"] == 3


def test_a_change_without_its_bill_is_on_the_next_one_and_a_credit_is_kept(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    half_way(tenant)
    tenant.to_team()
    assert (tenant.plan(), len(tenant.invoices())) == ("team", 1)
    tenant.to_period_end(3700)
    assert tenant.invoices()[1]["total"] == TEAM - PRO // 2 + TEAM // 2
    half_way(tenant)
    tenant.change(items=[{"id": tenant.item()["id"], "price": tenant.pro["id"]}], proration_behavior="always_invoice")
    credit = tenant.invoices()[2]
    assert (credit["total"], credit["amount_due"], credit["status"]) == (-(TEAM - PRO) // 2, 0, "paid")
    assert stripe.get(f"customers/{tenant.customer}")["balance"] == -(TEAM - PRO) // 2
    tenant.to_period_end(3700)
    assert tenant.invoices()[3]["amount_due"] == PRO - (TEAM - PRO) // 2
    assert stripe.get(f"customers/{tenant.customer}")["balance"] == 0


def test_another_interval_begins_a_new_period(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    yearly = stripe.price(299000, "professional_year", recurring={"interval": "year"})
    middle = half_way(tenant)
    tenant.change(items=[{"id": tenant.item()["id"], "price": yearly["id"]}])
    assert tenant.invoices()[1]["total"] == 299000 - PRO // 2
    assert abs(tenant.item()["current_period_start"] - middle) <= 5
    assert 365 * DAY <= tenant.item()["current_period_end"] - tenant.item()["current_period_start"] <= 366 * DAY


def test_a_lookup_key_that_moves_shows_on_the_subscription(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    stripe.post("prices", currency="usd", product=tenant.pro["product"], lookup_key="professional_month",
                transfer_lookup_key=True, unit_amount=1, recurring={"interval": "month"})  # fmt: skip
    assert tenant.item()["price"]["lookup_key"] is None


def downgrade(tenant: Tenant, **more: object) -> str:
    """Of a team to the professional plan at the end of its period."""
    schedule = tenant.stripe.post("subscription_schedules", from_subscription=tenant.id)
    (phase,) = schedule["phases"]
    assert phase["end_date"] == tenant.item()["current_period_end"]
    phases = [
        {"items": [{"price": tenant.team["id"]}], "start_date": phase["start_date"], "end_date": phase["end_date"]},
        {"items": [{"price": tenant.pro["id"]}], "duration": {"interval": "month"}},
    ]
    tenant.stripe.post(f"subscription_schedules/{schedule['id']}", phases=phases, **more)
    return str(schedule["id"])


def test_a_downgrade_waits_for_the_end_of_the_period_and_is_then_released(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    tenant.to_team(proration_behavior="none")
    schedule = downgrade(tenant, end_behavior="release")
    assert (tenant.plan(), tenant.now()["schedule"]) == ("team", schedule)
    assert stripe.refused("POST", f"subscriptions/{tenant.id}", cancel_at_period_end=True)[0] == 400
    tenant.to_period_end(3700)
    assert (tenant.plan(), tenant.invoices()[1]["total"]) == ("pro", PRO)
    tenant.to_period_end(1)
    assert tenant.now()["schedule"] is None and tenant.status() == "active"
    shown = stripe.get(f"subscription_schedules/{schedule}")
    assert (shown["status"], shown["released_subscription"]) == ("released", tenant.id)
    assert stripe.types(type="subscription_schedule.*")[-1] == "subscription_schedule.released"


def test_a_schedule_can_be_released_early_or_end_its_subscription(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    tenant.to_team(proration_behavior="none")
    early = downgrade(tenant)
    assert stripe.post(f"subscription_schedules/{early}/release")["status"] == "released"
    assert tenant.change(cancel_at_period_end=True)["cancel_at_period_end"] is True
    tenant.change(cancel_at_period_end=False)
    last = downgrade(tenant, end_behavior="cancel")
    tenant.to_period_end(1)
    assert tenant.plan() == "pro"
    tenant.to_period_end(1)
    assert tenant.status() == "canceled"
    assert stripe.get(f"subscription_schedules/{last}")["status"] == "completed"


def test_a_phase_that_has_become_impossible_holds_up_nothing(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    tenant.to_team(proration_behavior="none")
    downgrade(tenant)
    stripe.post(f"prices/{tenant.pro['id']}", active=False)
    tenant.to_period_end(3700)
    assert (tenant.plan(), tenant.status(), len(tenant.invoices())) == ("team", "active", 2)


def test_a_payment_goes_back_in_part_and_in_whole(stripe: Stripe) -> None:
    Tenant(stripe)
    (charge,) = stripe.get("charges")["data"]
    stripe.post("refunds", charge=charge["id"], amount=100)
    stripe.post("refunds", payment_intent=charge["payment_intent"])
    again = stripe.refused("POST", "refunds", charge=charge["id"])
    assert again == (400, "invalid_request_error", "charge_already_refunded")
    part, whole = (event["data"]["object"] for event in stripe.events(type="charge.refunded"))
    assert (part["amount_refunded"], part["refunded"]) == (100, False)
    assert (whole["amount_refunded"], whole["refunded"]) == (PRO, True)


def test_a_bank_disputes_a_payment_by_a_card_or_by_a_test(stripe: Stripe) -> None:
    Tenant(stripe, "pm_card_createDispute")
    (dispute,) = stripe.get("disputes")["data"]
    assert stripe.post(f"disputes/{dispute['id']}/close")["status"] == "lost"
    Tenant(stripe)
    newest, _ = stripe.get("charges")["data"]
    control = stripe.sandbox.control
    opened = control("POST", "stripe/disputes", {"charge": newest["id"]})
    assert control("POST", f"stripe/disputes/{opened['id']}", {"status": "won"})["status"] == "won"
    kinds = stripe.types(type="charge.dispute.*")
    assert kinds == ["charge.dispute.created", "charge.dispute.closed"] * 2
