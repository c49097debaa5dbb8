"""`tenantry stripe`: what is sold is brought to Stripe, once, and what differs there is found."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import REPOSITORY, SANITIZERS
from sandbox.tests.servers import Cluster, Sandbox
from sandbox.tests.stripe_client import KEY, Stripe, Tenant

BUILD = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release")).resolve()
URL = "http://127.0.0.1:9/api/webhooks/stripe"
POSTS = ("products", "prices", "billing_portal/configurations", "webhook_endpoints")
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    cluster = Cluster()
    started = Sandbox(cluster, "--stripe-rate-limit", "5000")
    yield started
    started.stop()
    cluster.stop()


@dataclass
class Desk:
    """Somebody at a shell with the command, a key and a folder."""

    stripe: Stripe
    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def secret_file(self) -> Path:
        return self.folder / "webhook-secret"

    def run(self, *words: str, **environment: str) -> Done:
        environment = {
            "PATH": os.environ["PATH"],
            "STRIPE_SECRET_KEY": KEY,
            "STRIPE_API_URL": f"http://127.0.0.1:{self.stripe.sandbox.stripe_port}",
            **SANITIZERS,
            **environment,
        }
        done = subprocess.run(
            [str(BUILD / "tenantry"), "stripe", *words], env=environment, capture_output=True, text=True, timeout=120
        )
        self.said += [done.stdout, done.stderr]
        return done

    def setup(self, *words: str, **environment: str) -> Done:
        where = ("--endpoint", URL, "--secret-file", str(self.secret_file))
        return self.run("setup", *where, *words, **environment)

    def rows(self, *words: str, **environment: str) -> list[Any]:
        """What a set-up says that it has done, without what it kept."""
        return told(self.setup("--json", *words, **environment), 0)

    def bad(self, **environment: str) -> dict[str, list[str]]:
        """What a check finds bad, by its name."""
        done = self.run("check", "--endpoint", URL, "--json", **environment)
        checks = json.loads(done.stdout)["checks"]
        found: dict[str, list[str]] = {}
        for each in checks:
            if each["verdict"] == "bad":
                assert each["advice"], each
                found.setdefault(each["name"], []).append(each["found"])
        assert done.returncode == (1 if found else 0), (done.returncode, done.stderr)
        return found

    def plans(self, amount: int, plan: int = 0) -> dict[str, str]:
        """The environment with other plans: the monthly price of one is this."""
        plans = json.loads((REPOSITORY / "templates" / "plans.json").read_text())
        plans["plans"][plan]["prices"]["month"]["amount"] = amount
        file = self.folder / "plans.json"
        file.write_text(json.dumps(plans))
        return {"PLANS": str(file)}

    def price(self, key: str = "tenantry_starter_month") -> Any:
        (found,) = self.stripe.get("prices", lookup_keys=[key])["data"]
        return found

    def endpoints(self) -> list[Any]:
        found: list[Any] = self.stripe.get("webhook_endpoints")["data"]
        return found

    def endpoint(self) -> Any:
        (found,) = self.endpoints()
        return found

    def secret(self, endpoint: str) -> str:
        """As Stripe knows it."""
        query = "select document -> '_secrets' -> 0 ->> 'secret' from stripe_object where id = %s"
        found = self.stripe.sandbox.cluster.scalar(query, endpoint, database="tenantry_sandbox")
        return str(found)

    def counts(self) -> dict[str, int]:
        return {path: len(self.stripe.get(path, limit=100)["data"]) for path in POSTS}


def told(done: Done, code: int) -> list[Any]:
    assert done.returncode == code, (done.stdout, done.stderr)
    return [row for row in json.loads(done.stdout)["items"] if row["result"] != "kept"]


@pytest.fixture
def desk(shared_sandbox: Sandbox, tmp_path: Path) -> Iterator[Desk]:
    shared_sandbox.control("POST", "reset")
    desk = Desk(Stripe(shared_sandbox), tmp_path)
    yield desk
    said = "".join(desk.said)
    assert KEY not in said and "whsec_" not in said


CONDITIONS = [{"type": "decreasing_item_amount"}, {"type": "shortening_interval"}]
ONCE = {"products": 3, "prices": 4, "billing_portal/configurations": 1, "webhook_endpoints": 1}


def saved(desk: Desk) -> None:
    """The file has the secret of the only endpoint, for its owner alone."""
    found = desk.secret_file.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert desk.secret_file.read_text() == desk.secret(desk.endpoint()["id"]) + "\n"
    assert [each.name for each in desk.folder.iterdir() if each.name.startswith("webhook-secret")] == ["webhook-secret"]


def test_the_first_run_makes_everything_and_the_second_changes_nothing(desk: Desk) -> None:
    made = desk.rows()
    assert [row["kind"] for row in made].count("price") == 4 and {row["result"] for row in made} == {"made"}
    assert desk.counts() == ONCE
    saved(desk)
    price = desk.price("tenantry_professional_year")
    assert (price["unit_amount"], price["currency"], price["recurring"]["interval"]) == (299000, "usd", "year")
    assert price["product"] == "tenantry_professional" and price["metadata"]["plan"] == "professional"
    assert desk.stripe.get("products/tenantry_enterprise")["metadata"]["plan"] == "enterprise"
    assert desk.endpoint()["api_version"] == "2026-07-29.dahlia" and len(desk.endpoint()["enabled_events"]) == 32
    (portal,) = desk.stripe.get("billing_portal/configurations", expand=["data.features.subscription_update.products"])[
        "data"
    ]
    update = portal["features"]["subscription_update"]
    assert update["proration_behavior"] == "always_invoice" and len(update["products"]) == 2
    assert update["schedule_at_period_end"]["conditions"] == CONDITIONS
    assert update["trial_update_behavior"] == "continue_trial"
    assert portal["features"]["subscription_cancel"]["mode"] == "at_period_end"
    before = desk.stripe.events()
    assert desk.rows() == [] and desk.stripe.events() == before and desk.counts() == ONCE
    assert desk.bad(STRIPE_WEBHOOK_SECRET_FILE=str(desk.secret_file)) == {}


def test_another_amount_is_another_price_and_subscribers_stay_on_theirs(desk: Desk) -> None:
    desk.rows()
    old, customer = desk.price(), desk.stripe.customer()["id"]
    subscribed = desk.stripe.post("subscriptions", customer=customer, items=[{"price": old["id"]}])["id"]
    dearer = desk.plans(10900)
    assert "unit_amount is 9900, not 10900" in desk.bad(**dearer)["price"][0]
    changed = desk.rows(**dearer)
    assert [(row["result"], row["kind"]) for row in changed] == [("made", "price"), ("changed", "portal")]
    assert old["id"] in changed[0]["detail"] and "$99.00 a month" in changed[0]["detail"]
    new = desk.price()
    assert new["id"] != old["id"] and new["unit_amount"] == 10900
    item = desk.stripe.get(f"subscriptions/{subscribed}")["items"]["data"][0]
    assert item["price"]["id"] == old["id"] and item["price"]["unit_amount"] == 9900
    assert item["price"]["metadata"]["plan"] == "starter" and item["price"]["lookup_key"] is None
    assert desk.rows(**dearer) == [] and desk.bad(**dearer) == {}
    desk.rows()  # the old amount, within the day in which Stripe repeats its answers
    assert desk.price()["id"] == old["id"] and desk.counts()["prices"] == 5
    assert desk.bad() == {} and desk.rows() == []


@pytest.mark.parametrize("kind", ["cut", "cut_after"])
@pytest.mark.parametrize("path", POSTS)
def test_a_lost_answer_doubles_nothing(desk: Desk, path: str, kind: str) -> None:
    desk.stripe.sandbox.fault(kind, {"method": "POST", "path": f"^/v1/{path}$"}, {"times": 1})
    desk.rows()
    assert desk.counts() == ONCE
    saved(desk)
    assert desk.rows() == [] and desk.bad() == {}


@pytest.mark.parametrize("work", ["done", "undone"])
@pytest.mark.parametrize("path", POSTS)
def test_a_failure_that_stripe_keeps_for_a_day_holds_up_one_run(desk: Desk, path: str, work: str) -> None:
    about = {"method": "POST", "path": f"^/v1/{path}$"}
    desk.stripe.sandbox.fault("api_error", about, {"times": 1}, code=500, work=work)
    done = desk.setup()
    assert done.returncode == 6 and "500" in done.stderr, done.stderr
    if (path, work) == ("webhook_endpoints", "done"):  # it is there, and its secret was in no answer
        assert "--roll" in told(desk.setup("--json"), 1)[0]["detail"]
        desk.rows("--roll")
    else:
        desk.rows()
    assert desk.counts() == ONCE
    saved(desk)
    assert desk.rows() == [] and desk.bad() == {}


def test_a_run_that_never_gets_an_answer_is_finished_by_the_next(desk: Desk) -> None:
    fault = desk.stripe.sandbox.fault("cut_after", {"method": "POST", "path": "^/v1/webhook_endpoints$"})
    done = desk.setup()
    assert done.returncode == 6 and "webhook endpoint" in done.stderr, done.stderr
    assert not desk.secret_file.exists() and list(desk.folder.iterdir()) == []
    first = desk.endpoint()["id"]
    desk.stripe.sandbox.ask("DELETE", f"/_sandbox/faults/{fault}", token=None)
    assert [row["kind"] for row in desk.rows()] == ["secret"] and desk.endpoint()["id"] == first
    saved(desk)


def killed(desk: Desk, failpoint: str, *words: str) -> None:
    done = desk.setup(*words, SANDBOX="1", FAILPOINTS=f"{failpoint}=crash")
    assert done.returncode == -9, (done.returncode, done.stderr)
    for leftover in desk.folder.glob("webhook-secret.*"):  # a kill leaves it behind
        assert stat.S_IMODE(leftover.stat().st_mode) == 0o600
        leftover.unlink()


@pytest.mark.parametrize("failpoint", ["setup_after_create", "setup_after_secret"])
def test_a_run_that_is_killed_is_finished_by_the_next(desk: Desk, failpoint: str) -> None:
    killed(desk, failpoint)
    assert desk.secret_file.exists() == (failpoint == "setup_after_secret")
    first = desk.endpoint()["id"]
    assert "never written" in desk.bad()["secret"][0]
    rows = desk.rows()
    assert desk.endpoint()["id"] == first and len(rows) == (failpoint == "setup_after_create")
    saved(desk)
    assert desk.bad() == {} and desk.rows() == []


def test_a_secret_that_nobody_has_after_a_day_needs_another_endpoint(desk: Desk) -> None:
    killed(desk, "setup_after_create")
    first = desk.endpoint()["id"]
    desk.stripe.pass_time(days=1.1)
    (row,) = told(desk.setup("--json"), 1)
    assert row["result"] == "trouble" and "--roll" in row["detail"]
    assert desk.endpoint()["id"] == first and not desk.secret_file.exists()
    assert [row["result"] for row in desk.rows("--roll")] == ["made", "made", "removed"]
    assert desk.endpoint()["id"] != first and desk.bad() == {}
    saved(desk)


def test_a_secret_is_rolled_on_purpose_and_a_roll_that_was_cut_off_goes_on(desk: Desk) -> None:
    desk.rows()
    first, secret = desk.endpoint()["id"], desk.secret_file.read_text()
    killed(desk, "setup_after_create", "--roll")
    assert len(desk.endpoints()) == 2 and desk.secret_file.read_text() == secret
    assert "2 endpoints" in desk.bad()["endpoint"][0]
    done = desk.setup()  # the file has the old secret, and nobody has said that it may go
    assert done.returncode == 2 and "File exists" in done.stderr, done.stderr
    assert desk.secret_file.read_text() == secret and len(desk.endpoints()) == 2
    assert [row["result"] for row in desk.rows("--roll")] == ["made", "removed"]
    assert desk.endpoint()["id"] != first and desk.secret_file.read_text() != secret
    saved(desk)
    assert desk.bad() == {} and desk.rows() == []


def test_an_endpoint_that_was_deleted_within_the_day_is_made_again(desk: Desk) -> None:
    desk.rows()
    first = desk.endpoint()["id"]
    desk.stripe.delete(f"webhook_endpoints/{first}")
    desk.secret_file.unlink()
    assert "none delivers" in desk.bad()["endpoint"][0]
    assert [row["kind"] for row in desk.rows()] == ["secret", "endpoint"]
    assert desk.endpoint()["id"] != first
    saved(desk)


def test_a_file_that_exists_or_cannot_be_written_is_known_before_there_is_a_secret(desk: Desk) -> None:
    desk.secret_file.write_text("of somebody else\n")
    done = desk.setup()
    assert done.returncode == 2 and "File exists" in done.stderr, done.stderr
    assert desk.secret_file.read_text() == "of somebody else\n"
    for nowhere in (desk.folder / "missing" / "secret", desk.folder):
        assert desk.run("setup", "--endpoint", URL, "--secret-file", str(nowhere)).returncode == 2
    done = desk.run("setup", "--endpoint", URL)
    assert done.returncode == 2 and "--secret-file" in done.stderr
    assert desk.endpoints() == []


def test_what_somebody_changed_at_stripe_is_found_and_mended(desk: Desk) -> None:
    desk.rows()
    endpoint, price = f"webhook_endpoints/{desk.endpoint()['id']}", desk.price()
    wanted = desk.endpoint()["enabled_events"]
    (portal,) = desk.stripe.get("billing_portal/configurations")["data"]
    desk.stripe.post(f"prices/{price['id']}", active=False)
    desk.stripe.post("products/tenantry_professional", name="Pro", metadata={"plan": ""})
    features = {"invoice_history": {"enabled": False}}
    desk.stripe.post(f"billing_portal/configurations/{portal['id']}", features=features)
    desk.stripe.post(endpoint, disabled=True, enabled_events=[*wanted[1:], "charge.failed"])
    bad = desk.bad()
    assert "active is false, not true" in bad["price"][0] and price["id"] in bad["price"][0]
    assert "name is Pro, not Professional" in bad["product"][0]
    assert "features.invoice_history.enabled is false" in bad["portal"][0]
    assert "status is disabled" in bad["endpoint"][0]
    desk.stripe.post(endpoint, disabled=False)
    assert wanted[0] in desk.bad()["endpoint"][0]
    desk.stripe.post(endpoint, enabled_events=[*wanted, "charge.failed"])
    assert "has besides charge.failed" in desk.bad()["endpoint"][0]
    assert [row["result"] for row in desk.rows()] == ["changed"] * 4
    assert desk.bad() == {} and desk.rows() == [] and desk.price()["id"] == price["id"]
    assert desk.endpoint()["status"] == "enabled" and sorted(desk.endpoint()["enabled_events"]) == sorted(wanted)


def test_a_portal_in_which_a_cheaper_plan_or_a_shorter_interval_does_not_wait_is_found_and_mended(desk: Desk) -> None:
    """As the set-up made it once, and as somebody may have left it."""
    desk.rows()
    (portal,) = desk.stripe.get("billing_portal/configurations")["data"]
    path = f"billing_portal/configurations/{portal['id']}"
    for kept in ([], CONDITIONS[:1], CONDITIONS[1:]):
        update = {"schedule_at_period_end": {"conditions": kept or ""}}
        desk.stripe.post(path, features={"subscription_update": update})
        (found,) = desk.bad()["portal"]
        assert "subscription_update.schedule_at_period_end.conditions lacks" in found
        assert all(each["type"] in found for each in CONDITIONS if each not in kept)
        assert [(row["kind"], row["name"]) for row in desk.rows()] == [("portal", portal["id"])]
        shown = desk.stripe.get(path)["features"]["subscription_update"]
        assert shown["schedule_at_period_end"]["conditions"] == CONDITIONS and desk.bad() == {}
    desk.stripe.post(path, features={"subscription_update": {"trial_update_behavior": "end_trial"}})
    assert "trial_update_behavior is end_trial, not continue_trial" in desk.bad()["portal"][0]
    desk.rows()
    assert desk.bad() == {}


def test_the_set_up_and_the_check_say_which_configuration_of_the_portal_billing_uses(desk: Desk) -> None:
    (made,) = [row for row in desk.rows() if row["kind"] == "portal"]
    (portal,) = desk.stripe.get("billing_portal/configurations")["data"]
    assert made["detail"].startswith(f"{portal['id']}, which billing uses")
    for told, skipped in ((portal["id"], 0), ("bpc_of_my_own", 1)):
        done = desk.run("check", "--json", STRIPE_PORTAL_CONFIGURATION=told)
        found = [each for each in json.loads(done.stdout)["checks"] if each["name"] == "portal"]
        assert [each["verdict"] for each in found] == ["skipped"] * skipped + ["good"]
        assert skipped == 0 or (told in found[0]["found"] and portal["id"] in found[0]["found"])


def test_a_disabled_endpoint_is_enabled_each_time(desk: Desk) -> None:
    """The same change twice a day is not taken for a repeated request."""
    desk.rows()
    for _ in range(3):
        desk.stripe.post(f"webhook_endpoints/{desk.endpoint()['id']}", disabled=True)
        assert [row["result"] for row in desk.rows()] == ["changed"]
        assert desk.endpoint()["status"] == "enabled"


def test_a_key_that_moved_and_a_plan_that_is_no_longer_sold_are_found(desk: Desk) -> None:
    desk.rows()
    other = desk.stripe.price(500, "tenantry_starter_month")
    assert other["id"] in desk.bad()["price"][0] and "product is" in desk.bad()["price"][0]
    metadata = {"tenantry": "1", "plan": "ancient"}
    desk.stripe.post("products", id="tenantry_ancient", name="Ancient", metadata=metadata)
    assert any("ancient" in each for each in desk.bad()["product"])
    rows = desk.rows()
    assert [(row["result"], row["kind"]) for row in rows] == [("changed", "price")] and other["id"] in rows[0]["detail"]
    assert desk.price()["unit_amount"] == 9900


def test_an_endpoint_of_another_version_is_replaced_only_when_told(desk: Desk) -> None:
    made = desk.stripe.post(
        "webhook_endpoints", url=URL, enabled_events=["invoice.paid"], api_version="2025-06-30.basil"
    )
    bad = desk.bad()["endpoint"]
    assert "api_version is 2025-06-30.basil" in bad[0] and "lacks" in bad[1]
    results = [row["result"] for row in told(desk.setup("--json"), 1) if row["kind"] == "endpoint"]
    assert sorted(results) == ["changed", "trouble"] and desk.endpoint()["id"] == made["id"]
    assert len(desk.bad()["endpoint"]) == 1 and not desk.secret_file.exists()
    desk.rows("--roll")
    assert desk.endpoint()["id"] != made["id"] and desk.bad() == {}
    saved(desk)


def test_an_endpoint_that_was_made_by_hand_is_taken_over_with_its_secret(desk: Desk) -> None:
    events = ["invoice.paid"]
    made = desk.stripe.post("webhook_endpoints", url=URL, enabled_events=events, api_version="2026-07-29.dahlia")
    assert [row["result"] for row in desk.rows() if row["kind"] == "endpoint"] == ["changed"]
    assert desk.endpoint()["id"] == made["id"] and not desk.secret_file.exists()
    assert desk.bad() == {} and desk.rows() == []


def test_a_key_that_is_refused_is_told_without_being_shown(desk: Desk) -> None:
    done = desk.setup(STRIPE_SECRET_KEY="sk_test_of_somebody_else_0123456789")
    assert done.returncode == 4 and "refuses the key" in done.stderr, done.stderr
    for wrong in ("pk_test_0123456789", "0123456789", "sk_test_01234 56789"):
        done = desk.setup(STRIPE_SECRET_KEY=wrong)
        assert done.returncode == 2 and "STRIPE_SECRET_KEY" in done.stderr, done.stderr
    done = desk.setup(STRIPE_SECRET_KEY="sk_live_0123456789", SANDBOX="1")
    assert done.returncode == 2 and "SANDBOX=1" in done.stderr
    done = desk.setup(STRIPE_SECRET_KEY="sk_live_0123456789")
    assert done.returncode == 2 and "https://" in done.stderr
    assert "56789" not in "".join(desk.said) and desk.counts() == dict.fromkeys(POSTS, 0)


def test_a_limit_is_waited_for(desk: Desk) -> None:
    desk.stripe.sandbox.fault("rate_limit", {"path": "^/v1/prices"}, {"times": 2}, retry_after=1)
    desk.rows()
    assert desk.counts() == ONCE


def test_a_stripe_that_is_away_is_told_with_its_own_code(desk: Desk) -> None:
    done = desk.run("check", "--json", STRIPE_API_URL="http://127.0.0.1:9")
    assert done.returncode == 6, done.stderr
    answer = json.loads(done.stdout)
    assert answer["good"] is False and answer["error"]["exit_code"] == 6


def test_the_gateways_secret_and_mode_are_compared(desk: Desk) -> None:
    desk.rows()
    secret = desk.secret_file.read_text().strip()
    assert desk.bad(STRIPE_WEBHOOK_SECRET=f"whsec_other,{secret}", STRIPE_LIVEMODE="0") == {}
    bad = desk.bad(STRIPE_WEBHOOK_SECRET="whsec_other", STRIPE_LIVEMODE="1")
    assert set(bad) == {"secret", "mode"}


@pytest.mark.parametrize(
    ("setting", "seen"), [("cancel", "was cancelled for it"), ("unpaid", "was left unpaid"), (None, "no such case")]
)
def test_what_stripe_did_after_the_last_retry_is_told_where_it_can_be_seen(
    desk: Desk, setting: str | None, seen: str
) -> None:
    if setting is not None:
        desk.stripe.sandbox.control("POST", "settings", {"stripe_after_retries": setting})
        tenant = Tenant(desk.stripe)
        tenant.pays_with("pm_card_chargeCustomerFail")
        tenant.to_period_end()
        desk.stripe.pass_time(days=30)
        assert tenant.status() == {"cancel": "canceled", "unpaid": "unpaid"}[setting]
    done = desk.run("check", "--json")
    (found,) = [each for each in json.loads(done.stdout)["checks"] if each["name"] == "retries"]
    assert seen in found["found"] and found["verdict"] == "skipped" and "cancel the subscription" in found["found"]


def test_plans_and_words_that_cannot_be_are_refused_before_stripe_is_asked(desk: Desk) -> None:
    broken = desk.folder / "broken.json"
    broken.write_text('{"currency": "usd"}')
    done = desk.setup(PLANS=str(broken))
    assert done.returncode == 2 and "plans: it must be a list" in done.stderr, done.stderr
    for words in (("setup",), ("setup", "--roll", "--endpoint", URL), ("set-up",), ("check", "--endpoint", "x"), ()):
        assert desk.run(*words).returncode == 2, words
    assert desk.counts() == dict.fromkeys(POSTS, 0)
