"""Stripe's conventions: forms, keys, errors, lists, expansion, idempotency, limits; customers, products and prices."""

from __future__ import annotations

import base64
import http.client
import json
from pathlib import Path
from typing import Any

from .servers import eventually
from .stripe_client import DAY, FORM, KEY, Stripe

OBJECTS = Path(__file__).with_name("recorded") / "stripe" / "objects"
CUSTOMERS = {"method": "POST", "path": "^/v1/customers$"}
INVALID = "invalid_request_error"


def official(kind: str) -> set[str]:
    return set(json.loads((OBJECTS / f"{kind}.json").read_text()))


def test_who_has_no_key_or_a_wrong_one_is_told_so(stripe: Stripe) -> None:
    def status(authorization: str) -> int:
        return stripe.ask("GET", "/v1/customers", {"Authorization": authorization}).status

    basic = base64.b64encode(b"sk_test_sandbox:").decode()
    assert status(f"Basic {basic}") == 200
    assert [status(wrong) for wrong in ("", "Bearer sk_test_other", "Basic ???")] == [401] * 3
    refused = stripe.ask("GET", "/v1/customers", {"Authorization": "Bearer sk_test_of_somebody"}).body["error"]
    assert refused["type"] == INVALID and refused["message"] == "Invalid API Key provided: sk_test_*******body"


def test_an_address_that_there_is_not_is_refused_as_by_stripe(stripe: Stripe) -> None:
    answer = stripe.ask("GET", "/v1/subscribers")
    assert (answer.status, answer.body["error"]["type"]) == (404, INVALID)
    assert answer.body["error"]["message"].startswith("Unrecognized request URL (GET: /v1/subscribers).")
    assert stripe.ask("PUT", "/v1/customers").status == 404


def test_an_answer_names_its_request_its_version_and_the_time_of_the_clock(stripe: Stripe) -> None:
    stripe.pass_time(days=800)
    answer = stripe.ask("GET", "/v1/customers", {"Stripe-Version": "2020-03-02"})
    assert answer.headers["Request-Id"].startswith("req_") and answer.headers["Stripe-Version"] == "2020-03-02"
    made = stripe.post("customers")
    year = stripe.sandbox.control("GET", "clock")["now"][:4]
    assert year in answer.headers["Date"] and made["created"] > 0


def test_parameters_are_checked(stripe: Stripe) -> None:
    assert stripe.refused("POST", "customers", surname="x") == (400, INVALID, "parameter_unknown")
    assert stripe.refused("POST", "products") == (400, INVALID, "parameter_missing")
    product = stripe.post("products", name="Plan")["id"]
    bad = {"product": product, "currency": "usd", "recurring": {"interval": "fortnight"}}
    answer = stripe.ask("POST", "/v1/prices", **bad)
    assert (answer.status, answer.body["error"]["param"]) == (400, "recurring[interval]")
    assert stripe.refused("POST", "prices", currency="usd", product=product, unit_amount="x")[0] == 400
    as_json = {"Content-Type": "application/json"}
    assert stripe.refused("POST", "customers", as_json, email="a@example.com") == (400, INVALID, None)


def test_metadata_are_merged_and_taken_away(stripe: Stripe) -> None:
    made = stripe.post("customers", metadata={"tenant_id": "t1", "plan": "pro"})
    changed = stripe.post(f"customers/{made['id']}", metadata={"plan": "", "region": "eu"})
    assert changed["metadata"] == {"tenant_id": "t1", "region": "eu"}
    assert stripe.post(f"customers/{made['id']}", metadata="")["metadata"] == {}
    (_, event, _) = stripe.events()
    assert event["data"]["previous_attributes"] == {"metadata": {"plan": "pro", "region": None}}


def test_a_list_goes_on_from_a_cursor(stripe: Stripe) -> None:
    ids = [stripe.post("customers", email=f"{number}@example.com")["id"] for number in range(5)]
    first = stripe.get("customers", limit=2)
    assert ([row["id"] for row in first["data"]], first["has_more"]) == ([ids[4], ids[3]], True)
    assert (first["object"], first["url"]) == ("list", "/v1/customers")
    after = stripe.get("customers", limit=10, starting_after=ids[3])
    assert ([row["id"] for row in after["data"]], after["has_more"]) == ([ids[2], ids[1], ids[0]], False)
    before = stripe.get("customers", limit=2, ending_before=ids[1])
    assert ([row["id"] for row in before["data"]], before["has_more"]) == ([ids[3], ids[2]], True)
    assert [row["id"] for row in stripe.get("customers", email="1@example.com")["data"]] == [ids[1]]
    assert stripe.refused("GET", "customers", limit=101)[0] == 400
    assert stripe.refused("GET", "customers", starting_after="cus_nobody") == (400, INVALID, "resource_missing")


def test_a_filter_may_hold_what_means_something_in_an_address(stripe: Stripe) -> None:
    made = stripe.post("customers", email="a+b&c=%2B@example.com")
    stripe.post("customers", email="a b")
    (found,) = stripe.get("customers", email="a+b&c=%2B@example.com")["data"]
    assert found["id"] == made["id"]


def test_what_is_asked_for_is_expanded(stripe: Stripe) -> None:
    price = stripe.price()
    shown = stripe.get(f"prices/{price['id']}", expand=["product"])
    assert shown["product"]["name"] == "professional_month" and isinstance(price["product"], str)
    (listed,) = stripe.get("prices", expand=["data.product"])["data"]
    assert listed["product"]["id"] == price["product"]
    assert stripe.refused("GET", f"prices/{price['id']}", expand=["currency"])[0] == 400


def test_a_deleted_customer_answers_and_says_that_it_is_gone(stripe: Stripe) -> None:
    made = stripe.post("customers", email="a@example.com")["id"]
    gone = {"id": made, "object": "customer", "deleted": True}
    assert stripe.delete(f"customers/{made}") == gone and stripe.get(f"customers/{made}") == gone
    assert stripe.refused("POST", f"customers/{made}", name="x") == (404, INVALID, "resource_missing")
    assert stripe.get("customers")["data"] == []
    assert stripe.types() == ["customer.created", "customer.deleted"]
    assert stripe.refused("GET", "customers/cus_nobody") == (404, INVALID, "resource_missing")


def test_a_product_with_a_chosen_id_takes_nobodys_place(stripe: Stripe) -> None:
    customer = stripe.post("customers")["id"]
    assert stripe.post("products", id="professional", name="Professional")["id"] == "professional"
    for taken in ("professional", customer):
        refused = stripe.refused("POST", "products", id=taken, name="Other")
        assert refused == (400, INVALID, "resource_already_exists")
    assert stripe.get(f"customers/{customer}")["object"] == "customer"


def test_a_lookup_key_moves_to_another_price_only_when_told(stripe: Stripe) -> None:
    old = stripe.price(key="pro")
    again = {"currency": "usd", "product": old["product"], "lookup_key": "pro", "recurring": {"interval": "year"}}
    assert stripe.refused("POST", "prices", **again) == (400, INVALID, None)
    new = stripe.post("prices", transfer_lookup_key=True, unit_amount=100, **again)
    assert [row["id"] for row in stripe.get("prices", lookup_keys=["pro", "other"])["data"]] == [new["id"]]
    assert stripe.get(f"prices/{old['id']}")["lookup_key"] is None
    assert (new["type"], new["recurring"]["interval_count"]) == ("recurring", 1)


def test_objects_have_the_fields_of_the_official_examples(stripe: Stripe) -> None:
    price = stripe.price()
    shown = {
        "customer": stripe.customer(None),
        "product": stripe.get(f"products/{price['product']}"),
        "price": price,
        "event": stripe.events()[0],
        "deleted_customer": stripe.delete(f"customers/{stripe.customer(None)['id']}"),
    }
    for kind, document in shown.items():
        assert set(document) >= official(kind), kind


def test_the_same_key_gives_the_same_answer_for_a_day(stripe: Stripe) -> None:
    def create(**params: Any) -> Any:
        return stripe.ask("POST", "/v1/customers", {"Idempotency-Key": "tenant-1"}, **params)

    first, second = create(name="Ada"), create(name="Ada")
    assert first.text == second.text and len(stripe.get("customers")["data"]) == 1
    assert (first.headers["Idempotent-Replayed"], second.headers["Idempotent-Replayed"]) == (None, "true")
    other = create(name="Bob")
    assert (other.status, other.body["error"]["type"]) == (400, "idempotency_error")
    (event,) = stripe.events()
    assert event["request"] == {"id": first.headers["Request-Id"], "idempotency_key": "tenant-1"}
    stripe.pass_time(days=1, seconds=1)
    assert create(name="Bob").body["name"] == "Bob"


def test_a_request_that_was_never_begun_leaves_its_key_free(stripe: Stripe) -> None:
    key = {"Idempotency-Key": "k"}
    assert stripe.ask("POST", "/v1/customers", key, surname="x").status == 400
    assert stripe.ask("POST", "/v1/customers", key, name="x").status == 200


def test_a_failure_is_given_again_under_its_key_whether_the_work_was_done_or_not(stripe: Stripe) -> None:
    for work, made in (("undone", 0), ("done", 1)):
        stripe.sandbox.fault("api_error", CUSTOMERS, {"times": 1}, work=work)
        answers = [stripe.ask("POST", "/v1/customers", {"Idempotency-Key": work}) for _ in range(2)]
        assert [answer.status for answer in answers] == [500, 500]
        assert answers[1].body["error"]["type"] == "api_error"
        assert len(stripe.get("customers")["data"]) == made


def test_a_second_request_with_a_key_that_is_under_way_is_refused(stripe: Stripe) -> None:
    key = {"Idempotency-Key": "slow"}
    stripe.sandbox.fault("delay", CUSTOMERS, {"times": 1}, seconds=60)
    first = http.client.HTTPConnection("127.0.0.1", stripe.sandbox.stripe_port)
    first.request("POST", "/v1/customers", "", {"Authorization": f"Bearer {KEY}", "Content-Type": FORM, **key})
    eventually(lambda: stripe.sandbox.control("GET", "faults")[0]["applied"])
    refused = stripe.ask("POST", "/v1/customers", key)
    assert (refused.status, refused.body["error"]["code"]) == (409, "idempotency_key_in_use")
    first.close()
    eventually(lambda: stripe.ask("POST", "/v1/customers", key).status == 200)


def test_too_many_requests_in_a_second_are_refused(stripe: Stripe) -> None:
    stripe.sandbox.control("POST", "settings", {"stripe_rate_limit": 3})
    stripe.sandbox.control("POST", "clock", {"rate": 0.001})
    answers = [stripe.ask("GET", "/v1/customers") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[3].body["error"]["code"] == "rate_limit"
    stripe.pass_time(seconds=1)
    assert stripe.ask("GET", "/v1/customers").status == 200


def test_a_fault_can_be_meant_for_one_room(stripe: Stripe) -> None:
    stripe.sandbox.fault("status", {"room": "stripe", "path": "^/v1/"}, code=503)
    assert stripe.ask("GET", "/v1/customers").status == 503
    assert stripe.sandbox.ask("GET", "/v1/organizations").status == 200
    stripe.sandbox.control("DELETE", "faults")
    stripe.sandbox.fault("rate_limit", {"path": "^/v1/customers"}, headers={"Stripe-Should-Retry": "true"})
    limited = stripe.ask("GET", "/v1/customers")
    assert (limited.status, limited.headers["Stripe-Should-Retry"]) == (429, "true")


def test_what_was_asked_is_remembered_as_fields(stripe: Stripe) -> None:
    stripe.post("customers", metadata={"tenant_id": "t1"})
    (entry,) = stripe.sandbox.control("GET", "requests?path=^/v1/customers")
    assert (entry["body"], entry["status"]) == ({"metadata[tenant_id]": "t1"}, 200)


def test_events_are_kept_for_thirty_days(stripe: Stripe) -> None:
    stripe.post("customers")
    stripe.pass_time(days=29)
    stripe.post("products", name="x")
    assert stripe.types() == ["customer.created", "product.created"]
    assert stripe.types(types=["product.created", "price.created"]) == ["product.created"]
    (first, _) = stripe.events()
    assert stripe.types(created={"gt": first["created"]}) == ["product.created"]
    assert stripe.get(f"events/{first['id']}") == first
    stripe.pass_time(days=2)
    assert stripe.types(type="*") == ["product.created"] and stripe.types(type="product.*") == ["product.created"]
    assert DAY * 28 < stripe.events()[0]["created"] - first["created"] < DAY * 30


def test_the_list_of_events_can_lag(stripe: Stripe) -> None:
    stripe.post("customers")
    stripe.sandbox.fault("lagging_events", seconds=60)
    assert stripe.types() == []
    stripe.pass_time(seconds=61)
    stripe.post("products", name="x")
    assert stripe.types() == ["customer.created"]


def test_what_no_database_can_keep_is_refused(stripe: Stripe) -> None:
    assert stripe.refused("POST", "customers", name="a\0b")[0] == 400
    odd: list[dict[str, Any]] = [{"[x]": "y"}, {"metadata": {"a": {"b": "c"}}}, {"a[b": "c"}]
    assert [stripe.refused("POST", "customers", **params)[0] for params in odd] == [400] * 3
