"""Stripe's webhooks, from their arrival to Kafka: kept as they came, or refused with the reason."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.ports import reserve_port
from deploy.local.stack import Stack

from .client import Answer, Api, eventually
from .conftest import make_stack
from .service_faults import armed, died_of_sigkill, stopped, told
from .stripe import SECRET, WEBHOOKS, SandboxStripe, Stripe, event, signature
from .topics import Record, read_all

ROLLED = "whsec_of_the_tests_rolled"
PRICE = {"recurring[interval]": "month", "product_data[name]": "Professional"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack(
        "postgres", provisioners=0, options={"STRIPE_WEBHOOK_SECRET": f"{SECRET},{ROLLED}", "MESSAGE_TIMEOUT": "6s"}
    )


@pytest.fixture(scope="module")
def stripe(stack: Stack) -> Stripe:
    return Stripe(Api(stack.services["gateway-0"].url, None))


def kept(stack: Stack, name: str) -> list[Record]:
    """All that Kafka has of the event."""
    return [r for r in read_all(stack.kafka.bootstrap, "billing.stripe.v1") if r.headers["ce_id"] == name.encode()]


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code), answer


def test_a_signed_event_is_kept_byte_for_byte_under_stripes_id(stack: Stack, stripe: Stripe) -> None:
    body = json.dumps(event("evt_kept"), indent=3).encode() + b"\r\n \n"
    answer = stripe.deliver(body)
    assert (answer.status, answer.json) == (200, {"id": "evt_kept"})
    [record] = kept(stack, "evt_kept")
    assert record.value == body and record.key == b"test/-/cus_1"
    assert record.headers["ce_type"] == b"billing.stripe.received.v1" and record.headers["ce_source"] == b"/stripe"
    assert record.headers["content-type"] == b"application/octet-stream"


@pytest.mark.parametrize(
    ("name", "more", "key"),
    [
        ("evt_k1", {"account": "acct_7"}, "test/acct_7/cus_1"),
        ("evt_k2", {"data": {"object": {"id": "cus_9", "object": "customer"}}}, "test/-/cus_9"),
        ("evt_k3", {"data": {"object": {"id": "in_1", "customer": {"id": "cus_8", "object": "customer"}}}}, "test/-/cus_8"),
        ("evt_k4", {"data": {"object": {"id": "price_1", "object": "price"}}}, "test/-/price_1"),
        ("evt_k5", {"data": {"object": {"id": "in_2", "customer": None}}}, "test/-/in_2"),
        ("evt_k6", {"object": "v2.core.event", "data": None, "related_object": {"id": "cus_5"}}, "test/-/cus_5"),
        ("evt_k7", {"data": {"object": {"object": "invoice", "customer": "cus 1\n"}}}, "test/-/-"),
    ],
)  # fmt: skip
def test_what_is_about_one_customer_has_one_key(
    stack: Stack, stripe: Stripe, name: str, more: dict[str, Any], key: str
) -> None:
    assert stripe.deliver(event(name, **more)).status == 200
    assert [record.key for record in kept(stack, name)] == [key.encode()]


def test_any_of_the_secrets_will_do_while_one_is_rolled(stack: Stack, stripe: Stripe) -> None:
    assert Stripe(stripe.api, ROLLED).deliver(event("evt_rolled")).status == 200
    body = json.dumps(event("evt_both")).encode()
    both = signature(body, "whsec_unknown") + "," + signature(body).split(",")[1]
    assert stripe.deliver(body, stripe_signature=both).status == 200


def test_a_delivery_that_comes_twice_is_kept_twice_under_one_id(stack: Stack, stripe: Stripe) -> None:
    """Who applies them knows the id."""
    for _ in range(2):
        assert stripe.deliver(event("evt_twice")).status == 200
    assert len(kept(stack, "evt_twice")) == 2


def test_what_nobody_has_signed_is_refused(stack: Stack, stripe: Stripe) -> None:
    good = json.dumps(event("evt_forged")).encode()
    refused(stripe.api.call("POST", WEBHOOKS, raw=good), 400, "not_signed")
    refused(Stripe(stripe.api, "whsec_guessed").deliver(good), 400, "signature_mismatch")
    refused(stripe.deliver(good + b" ", stripe_signature=signature(good)), 400, "signature_mismatch")
    refused(stripe.deliver(good[:-1], stripe_signature=signature(good)), 400, "signature_mismatch")
    refused(stripe.deliver(good, stripe_signature="t=1,v1"), 400, "signature_malformed")
    refused(stripe.deliver(good, at=int(time.time()) - 400), 400, "signature_too_old")
    refused(stripe.deliver(good, at=int(time.time()) + 400), 400, "signature_too_new")
    assert kept(stack, "evt_forged") == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (event("evt_live", livemode=True), "wrong_mode"),
        (event("evt_no_mode", livemode=None), "not_an_event"),
        (event("evt with blanks"), "not_an_event"),
        (event("e" * 256), "not_an_event"),
        (b"[]", "not_an_event"),
        (b"{", "not_json"),
        (b"", "not_json"),
        (b'{"id": "evt_\xff", "livemode": false}', "not_json"),
    ],
)
def test_what_is_signed_but_no_event_of_ours_is_refused(
    stripe: Stripe, body: bytes | dict[str, Any], code: str
) -> None:
    refused(stripe.deliver(body), 400, code)


def test_an_event_may_have_a_mebibyte(stack: Stack, stripe: Stripe) -> None:
    frame = json.dumps(event("evt_large", padding="")).encode()
    for size, status in ((1024 * 1024, 200), (1024 * 1024 + 1, 413)):
        body = frame.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(frame))))
        assert len(body) == size
        assert stripe.deliver(body).status == status
    assert [len(record.value or b"") for record in kept(stack, "evt_large")] == [1024 * 1024]


def test_neither_a_token_nor_a_type_is_asked_for(stripe: Stripe) -> None:
    assert stripe.deliver(event(), content_type="text/plain; charset=utf-8").status == 200
    assert stripe.api.get(WEBHOOKS).status == 405


def test_a_delivery_is_counted_by_what_became_of_it(stack: Stack, stripe: Stripe) -> None:
    stripe.deliver(b"{}")
    counted = stack.services["gateway-0"].metrics()
    for outcome in ("accepted", "not_an_event"):
        assert counted[f'tenantry_webhooks_total{{outcome="{outcome}"}}'] > 0


def test_events_are_taken_while_the_catalog_is_away(stack: Stack, stripe: Stripe) -> None:
    stack.postgres.stop()
    try:
        assert stripe.deliver(event("evt_no_catalog")).status == 200
    finally:
        stack.postgres.start()
    assert len(kept(stack, "evt_no_catalog")) == 1


def test_while_kafka_is_away_stripe_is_told_to_come_again(stack: Stack, stripe: Stripe) -> None:
    stack.kafka.stop()
    try:
        answer = stripe.deliver(event("evt_no_kafka"))
        assert answer.status == 503 and int(answer.headers["retry-after"]) > 0, answer
    finally:
        stack.kafka.start()
    eventually(lambda: stripe.deliver(event("evt_again")).status == 200, 30, "Kafka takes events again")
    assert len(kept(stack, "evt_again")) >= 1


@pytest.mark.parametrize(("failpoint", "count"), [("gateway_before_produce", 0), ("gateway_after_ack", 1)])
def test_a_gateway_that_dies_first_has_promised_nothing(stack: Stack, failpoint: str, count: int) -> None:
    """Stripe delivers it again."""
    gateway, name = stack.services["gateway-0"], f"evt_{failpoint}"
    with armed(gateway, f"{failpoint}=crash"):
        gateway.wait_until_ready()
        assert Stripe(Api(gateway.url, None)).deliver(event(name)).status == 0
        assert died_of_sigkill(gateway)
    assert len(kept(stack, name)) == count
    assert Stripe(Api(gateway.url, None)).deliver(event(name)).status == 200
    assert len(kept(stack, name)) == count + 1


def test_without_a_secret_webhooks_are_refused_and_everything_else_works(stack: Stack) -> None:
    gateway = stack.services["gateway-0"]
    with told(gateway, STRIPE_WEBHOOK_SECRET=""):
        refused(Stripe(Api(gateway.url, None)).deliver(event()), 503, "stripe_not_configured")


def all_types(stack: Stack) -> list[str]:
    """Of the events that Kafka has, without those that came again."""
    records = {r.headers["ce_id"]: r.json["type"] for r in read_all(stack.kafka.bootstrap, "billing.stripe.v1")}
    return list(records.values())


def failed_deliveries(provider: SandboxStripe) -> list[Any]:
    return [each for each in provider.control("GET", "stripe/deliveries") if each["error"] is not None]


def test_what_stripe_could_not_deliver_comes_by_itself_and_a_rolled_secret_loses_nothing(stack: Stack) -> None:
    provider, gateway = SandboxStripe(stack, reserve_port()), stack.services["gateway-0"]
    endpoint = provider.post("webhook_endpoints", url=gateway.url + WEBHOOKS, **{"enabled_events[0]": "*"})
    with told(gateway, STRIPE_WEBHOOK_SECRET=endpoint["secret"]):
        provider.post("customers", email="ada@acme.test")
        eventually(lambda: "customer.created" in all_types(stack), 20, "the event is kept")
        with stopped(gateway):
            provider.post("products", name="Professional")
            eventually(lambda: failed_deliveries(provider), 20, "it was tried")
            provider.pass_time(3600)
        provider.pass_time(3600)
        eventually(lambda: "product.created" in all_types(stack), 20, "it was tried again")
        provider.control("PATCH", f"stripe/webhook_endpoints/{endpoint['id']}", {"roll_secret_seconds": 3600})
        provider.post("prices", currency="usd", unit_amount="9900", **PRICE)
        eventually(lambda: "price.created" in all_types(stack), 20, "both secrets are in force")


def test_no_secret_of_stripes_is_in_a_log(stack: Stack) -> None:
    for log in stack.root.rglob("*.log"):
        text = log.read_bytes()
        assert SECRET.encode() not in text and ROLLED.encode() not in text, log
