"""Events are delivered as Stripe delivers them: signed, again for three days, twice, out of order, in either shape."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..stripe.signature import sign
from .servers import Sandbox, eventually
from .stripe_client import DAY, Stripe, Tenant
from .webhook_receiver import Receiver

RECORDED = Path(__file__).with_name("recorded") / "stripe"
VECTORS = json.loads((RECORDED / "signature_vectors.json").read_text())["vectors"]
HOUR = 3600


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.stop()


def endpoint(stripe: Stripe, receiver: Receiver, *events: str, **more: Any) -> Any:
    return stripe.post("webhook_endpoints", url=receiver.url, enabled_events=list(events or ("*",)), **more)


def settled(stripe: Stripe) -> list[Any]:
    """The deliveries, once nothing is left to be sent at this moment of the clock."""

    def done() -> list[Any]:
        rows: list[Any] = stripe.sandbox.control("GET", "stripe/deliveries")
        waiting = [row for row in rows if row["next_at"] is not None and row["next_at"] <= stripe.now()]
        return [] if waiting else rows

    return eventually(done)


@pytest.mark.parametrize(
    "vector", [each for each in VECTORS if each["want"] == "ok"], ids=lambda each: str(each["name"])
)
def test_a_signature_is_one_that_receivers_accept(vector: Any) -> None:
    parts = vector["header"].split(",")
    at = next(int(part[2:]) for part in parts if part.startswith("t="))
    payload = base64.b64decode(vector["payload_b64"])
    made = [sign(payload, [secret], at).split(",")[1] for secret in vector["secrets"]]
    assert set(made) & set(parts)


def test_an_event_arrives_signed_with_a_secret_that_is_shown_once(stripe: Stripe, receiver: Receiver) -> None:
    made = endpoint(stripe, receiver, "customer.created")
    assert made["secret"].startswith("whsec_") and "secret" not in stripe.get(f"webhook_endpoints/{made['id']}")
    official = set(json.loads((RECORDED / "objects" / "webhook_endpoint.json").read_text()))
    assert official <= set(made)
    stripe.pass_time(days=400)
    customer = stripe.post("customers")
    stripe.post("products", name="not wanted")
    (row,) = settled(stripe)
    assert (row["attempts"], row["status"], row["type"]) == (1, 200, "customer.created")
    (event,) = receiver.events()
    assert event["data"]["object"] == customer and receiver.is_signed_with(made["secret"])
    assert stripe.get(f"events/{event['id']}")["pending_webhooks"] == 0
    assert event["pending_webhooks"] == 1


def test_two_secrets_sign_while_one_is_rolled(stripe: Stripe, receiver: Receiver) -> None:
    made = endpoint(stripe, receiver)
    path = f"stripe/webhook_endpoints/{made['id']}"
    new = stripe.sandbox.control("PATCH", path, {"roll_secret_seconds": HOUR})["secret"]
    stripe.post("customers")
    settled(stripe)
    assert receiver.is_signed_with(made["secret"]) and receiver.is_signed_with(new)
    stripe.pass_time(seconds=HOUR)
    stripe.post("customers")
    settled(stripe)
    assert receiver.is_signed_with(new) and not receiver.is_signed_with(made["secret"])


def test_each_endpoint_has_the_shape_of_the_version_it_is_pinned_to(stripe: Stripe, receiver: Receiver) -> None:
    other = Receiver()
    try:
        endpoint(stripe, receiver, "customer.subscription.updated", "invoice.paid")
        stripe.post("webhook_endpoints", url=other.url, enabled_events=["*"], api_version="2020-03-02")
        tenant = Tenant(stripe)
        settled(stripe)
        new = {event["type"]: event["data"]["object"] for event in receiver.events()}
        old = {event["type"]: event["data"]["object"] for event in other.events()}
        end = tenant.item()["current_period_end"]
        assert new["customer.subscription.updated"]["items"]["data"][0]["current_period_end"] == end
        assert old["customer.subscription.updated"]["current_period_end"] == end
        assert new["invoice.paid"]["parent"]["subscription_details"]["subscription"] == tenant.id
        assert old["invoice.paid"]["subscription"] == tenant.id
        assert {event["api_version"] for event in other.events()} == {"2020-03-02"}
        assert stripe.events()[0]["api_version"] == "2026-07-29.dahlia"
    finally:
        other.stop()


def test_what_is_not_taken_is_sent_again_for_three_days_and_no_longer(stripe: Stripe, receiver: Receiver) -> None:
    endpoint(stripe, receiver, "customer.created")
    stripe.sandbox.control("POST", "clock", {"rate": 0.001})
    receiver.status = 500
    stripe.post("customers")
    seen = []
    while (row := settled(stripe)[0])["next_at"] is not None:
        seen.append(row["next_at"] - row["first_at"])
        assert len(receiver.got) == row["attempts"] == len(seen)
        stripe.pass_time(seconds=row["next_at"] - stripe.now())
    assert (seen[0], seen[-1], len(receiver.got)) == (300, 3 * DAY, 11)
    assert seen == sorted(seen) and row["status"] == 500
    (event,) = stripe.events(delivery_success=False)
    assert event["pending_webhooks"] == 1 and stripe.events(delivery_success=True) == []
    assert {body["id"] for body in receiver.events()} == {event["id"]}
    receiver.status = 200
    assert stripe.sandbox.control("POST", f"stripe/deliveries/{event['id']}") == {"sent": 1}
    eventually(lambda: stripe.events(delivery_success=True))


def test_a_redirect_and_a_closed_door_are_no_success(stripe: Stripe, receiver: Receiver) -> None:
    endpoint(stripe, receiver)
    stripe.post("webhook_endpoints", url="http://127.0.0.1:1/", enabled_events=["*"])
    receiver.status = 302
    stripe.post("customers")
    moved, closed = settled(stripe)
    assert (moved["status"], closed["status"]) == (302, None)
    assert closed["error"] and all(row["next_at"] for row in (moved, closed))


def test_a_disabled_endpoint_gets_nothing_and_a_deleted_one_is_gone(stripe: Stripe, receiver: Receiver) -> None:
    made = endpoint(stripe, receiver)["id"]
    assert stripe.post(f"webhook_endpoints/{made}", disabled=True)["status"] == "disabled"
    stripe.post("customers")
    assert stripe.sandbox.control("GET", "stripe/deliveries") == []
    assert stripe.get("events")["data"][0]["pending_webhooks"] == 0
    assert stripe.delete(f"webhook_endpoints/{made}")["deleted"] is True
    assert stripe.refused("GET", f"webhook_endpoints/{made}")[0] == 404 and receiver.got == []


def fault(stripe: Stripe, how: str, event: str = "", rule: Any = None, **more: Any) -> int:
    return stripe.sandbox.fault("delivery", {"event": event}, rule, how=how, **more)


def test_a_word_that_means_nothing_is_refused(stripe: Stripe) -> None:
    control = stripe.sandbox
    for fault in ({"kind": "delivery", "how": "twice"}, {"kind": "api_error", "work": "half"}):
        answer = control.ask("POST", "/_sandbox/faults", {"fault": fault}, token=None)
        assert answer.status == 400 and "is one of" in answer.body["message"]
    answer = control.ask("POST", "/_sandbox/settings", {"stripe_after_retries": "canceled"}, token=None)
    assert answer.body["message"] == "stripe_after_retries must be of type cancel_unpaid_or_past_due"


def test_a_delivery_can_be_doubled(stripe: Stripe, receiver: Receiver) -> None:
    endpoint(stripe, receiver)
    fault(stripe, "duplicate", "^customer", {"times": 1}, count=2)
    stripe.post("customers")
    stripe.post("customers")
    settled(stripe)
    ids = [event["id"] for event in receiver.events()]
    assert len(ids) == 4 and len(set(ids)) == 2
    assert stripe.sandbox.control("GET", "faults")[0]["applied"] == 1


def test_a_lost_answer_brings_the_same_event_again(stripe: Stripe, receiver: Receiver) -> None:
    endpoint(stripe, receiver)
    fault(stripe, "drop_answer", rule={"times": 1})
    stripe.post("customers")
    (row,) = settled(stripe)
    assert (row["status"], len(receiver.got)) == (None, 1)
    stripe.pass_time(seconds=301)
    eventually(lambda: len(receiver.got) == 2)
    assert receiver.got[0][0] == receiver.got[1][0]


def test_a_lost_delivery_comes_with_the_next_attempt(stripe: Stripe, receiver: Receiver) -> None:
    endpoint(stripe, receiver)
    fault(stripe, "lose", rule={"times": 1})
    stripe.post("customers")
    assert settled(stripe)[0]["attempts"] == 1 and receiver.got == []
    stripe.pass_time(seconds=301)
    eventually(lambda: len(receiver.got) == 1)


def test_a_delay_lets_later_events_go_first(stripe: Stripe, receiver: Receiver) -> None:
    endpoint(stripe, receiver)
    fault(stripe, "delay", "customer.created", {"times": 1}, seconds=60)
    stripe.post("customers")
    stripe.post("products", name="x")
    settled(stripe)
    assert receiver.types() == ["product.created"]
    stripe.pass_time(seconds=61)
    eventually(lambda: receiver.types() == ["product.created", "customer.created"])


def test_a_burst_of_one_second_arrives_in_another_order(stripe: Stripe, receiver: Receiver) -> None:
    endpoint(stripe, receiver, "customer.subscription.created", "customer.subscription.updated", "invoice.paid")
    stripe.sandbox.control("POST", "clock", {"rate": 0.001})
    stripe.sandbox.control("POST", "settings", {"stripe_deliveries_at_once": 1})
    rule = fault(stripe, "delay", seconds=60)
    fault(stripe, "reorder")
    Tenant(stripe)
    rows = settled(stripe)
    stripe.sandbox.control("DELETE", f"faults/{rule}")
    stripe.pass_time(seconds=60)
    eventually(lambda: len(receiver.got) == len(rows))
    assert len({event["created"] for event in receiver.events()}) == 1
    sent = sorted(settled(stripe), key=lambda row: row["id"])
    assert receiver.types() == [row["type"] for row in reversed(sent)]


def test_a_thin_event_says_only_what_to_look_at(stripe: Stripe, receiver: Receiver) -> None:
    made = endpoint(stripe, receiver)
    stripe.sandbox.control("PATCH", f"stripe/webhook_endpoints/{made['id']}", {"thin": True})
    customer = stripe.post("customers")
    settled(stripe)
    (event,) = receiver.events()
    assert (event["object"], event["type"], "data" in event) == ("v2.core.event", "v1.customer.created", False)
    assert event["related_object"]["id"] == customer["id"]


def test_events_and_what_is_due_survive_a_kill(stripe: Stripe, sandbox: Sandbox, receiver: Receiver) -> None:
    endpoint(stripe, receiver, "invoice.paid")
    tenant = Tenant(stripe)
    settled(stripe)
    receiver.status = 500
    tenant.to_period_end(HOUR + 60)
    eventually(lambda: len(receiver.got) == 2)
    sandbox.kill()
    receiver.status = 200
    sandbox.start()
    stripe.pass_time(days=1)
    eventually(lambda: len(receiver.got) == 3)
    assert tenant.status() == "active" and len(tenant.invoices()) == 2
    tenant.to_period_end(HOUR + 60)
    eventually(lambda: len(receiver.got) == 4)
