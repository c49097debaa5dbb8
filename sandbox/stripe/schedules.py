"""Subscription schedules: phases, each with its items, that a subscription passes through; then it is released or ends."""

from __future__ import annotations

from .api import Call, Endpoint
from .changes import Changes
from .errors import invalid
from .forms import LISTING, choice, hash_of, list_of, merged, metadata, moment, natural, text
from .ledger import Ledger
from .lifecycle import Lifecycle, item_of
from .periods import moved
from .subscriptions import new_items, recurring_price
from .work import Document, Work

END_BEHAVIOR = choice("release", "cancel")
PRORATION = choice("create_prorations", "always_invoice", "none")
DURATION = hash_of({"interval": choice("day", "week", "month", "year"), "interval_count": natural}, ["interval"])
PHASE = hash_of(
    {
        "items": list_of(hash_of({"price": text, "quantity": natural, "metadata": metadata}, ["price"])),
        "start_date": moment,
        "end_date": moment,
        "duration": DURATION,
        "metadata": metadata,
        "proration_behavior": PRORATION,
    },
    ["items"],
)
UPDATE = {
    "end_behavior": END_BEHAVIOR,
    "metadata": metadata,
    "phases": list_of(PHASE),
    "proration_behavior": PRORATION,
}


class Schedules:
    def __init__(self, ledger: Ledger, lifecycle: Lifecycle, changes: Changes) -> None:
        self._lifecycle = lifecycle
        self._changes = changes
        lifecycle.ended = self.subscription_ended
        # At the end of a period this comes first, so that the next one is billed as the next phase says.
        ledger.when_due("change", "subscription_schedule", self.phase_over)

    def endpoints(self) -> list[Endpoint]:
        base, one = "/v1/subscription_schedules", "/v1/subscription_schedules/{id}"
        create = {"from_subscription": text, "metadata": metadata}
        return [
            Endpoint("POST", base, self.create, create, ["from_subscription"]),
            Endpoint("GET", base, self.list_all, {**LISTING, "customer": text}),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one, self.update, UPDATE),
            Endpoint("POST", one + "/release", self.release),
            Endpoint("POST", one + "/cancel", self.cancel),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        where = "from_subscription"
        subscription = await work.get("subscription", call.params[where], where, 400)
        if subscription["schedule"] is not None:
            raise invalid("You cannot migrate a subscription that is already attached to a schedule.", where)
        if subscription["status"] not in ("active", "trialing", "past_due"):
            raise invalid(f"You cannot migrate a subscription that is {subscription['status']}.", where)
        return self._begin(work, subscription, call.params.get("metadata", {}))

    def _begin(self, work: Work, subscription: Document, metadata: Document) -> Document:
        """With one phase, which is the period that runs."""
        period = item_of(subscription)
        span = {"start_date": period["current_period_start"], "end_date": period["current_period_end"]}
        items = [
            {"price": item["price"]["id"], "quantity": item["quantity"], "metadata": item["metadata"]}
            for item in subscription["items"]["data"]
        ]
        phase = {**span, "items": items, "metadata": {}, "proration_behavior": "create_prorations"}
        schedule = work.add(
            "subscription_schedule",
            {
                "canceled_at": None,
                "completed_at": None,
                "current_phase": span,
                "customer": subscription["customer"],
                "end_behavior": "cancel" if subscription["cancel_at_period_end"] else "release",
                "metadata": metadata,
                "phases": [phase],
                "released_at": None,
                "released_subscription": None,
                "status": "active",
                "subscription": subscription["id"],
                "test_clock": subscription["test_clock"],
            },
        )
        subscription["schedule"] = schedule["id"]
        work.due(schedule, "change", span["end_date"])
        work.tell("subscription_schedule.created", schedule)
        work.tell("customer.subscription.updated", subscription)
        return schedule

    async def change_at_period_end(self, work: Work, subscription: Document, items: list[Document]) -> None:
        """As the customer portal plans a change: the items that are wanted for one period, and then no schedule any more."""
        schedule = self._begin(work, subscription, {})
        (phase,), recurring = schedule["phases"], items[0]["price"]["recurring"]
        wanted = [{"price": item["price"]["id"], "quantity": item["quantity"]} for item in items]
        span = {name: recurring[name] for name in ("interval", "interval_count")}
        following = {"items": wanted, "duration": span, "proration_behavior": "none"}
        schedule["end_behavior"] = "release"
        await self._plan(work, schedule, [phase, following])
        work.tell("subscription_schedule.updated", schedule)

    async def make_way(self, work: Work, subscription: Document) -> None:
        """For a change by the subscription's owner: a schedule that has nothing before it any more lets it go."""
        if subscription["schedule"] is None:
            return
        schedule = await work.get("subscription_schedule", subscription["schedule"])
        if planned(schedule, work.at) is not None:
            raise invalid("A change of your plan is planned already.")
        await self._release(work, schedule)

    async def list_all(self, work: Work, call: Call) -> Document:
        customer = call.params.get("customer")
        return await work.page("subscription_schedule", "/v1/subscription_schedules", call.params, customer=customer)

    async def get(self, work: Work, call: Call) -> Document:
        return await work.get("subscription_schedule", call.ids["id"])

    async def update(self, work: Work, call: Call) -> Document:
        schedule, params = await self._active(work, call), call.params
        if "metadata" in params:
            schedule["metadata"] = merged(schedule["metadata"], params["metadata"])
        schedule["end_behavior"] = params.get("end_behavior", schedule["end_behavior"])
        if params.get("phases"):
            await self._plan(work, schedule, params["phases"])
        work.tell("subscription_schedule.updated", schedule)
        return schedule

    async def _plan(self, work: Work, schedule: Document, wanted: list[Document]) -> None:
        """The first phase is the one that runs: it begins when it began, and its items are the subscription's at once."""
        current, phases = schedule["current_phase"], []
        start = wanted[0].get("start_date", current["start_date"])
        if start != current["start_date"]:
            raise invalid("You can not modify the start date of the current phase.", "phases[0][start_date]")
        for number, each in enumerate(wanted):
            where = f"phases[{number}]"
            if number and each.get("start_date", start) != start:
                raise invalid("A phase must begin when the one before it ends.", f"{where}[start_date]")
            prices = [await recurring_price(work, item["price"], f"{where}[items]") for item in each["items"]]
            end = end_of(each, start, prices[0]["recurring"], where)
            items = [{"quantity": 1, "metadata": {}, **item} for item in each["items"]]
            behavior = each.get("proration_behavior", "create_prorations")
            phases.append(
                {
                    "start_date": start,
                    "end_date": end,
                    "items": items,
                    "metadata": each.get("metadata", {}),
                    "proration_behavior": behavior,
                }
            )
            start = end
        if phases[0]["end_date"] <= work.at:
            raise invalid("The current phase must end in the future.", "phases[0][end_date]")
        schedule["phases"] = phases
        schedule["current_phase"] = {name: phases[0][name] for name in ("start_date", "end_date")}
        work.due(schedule, "change", phases[0]["end_date"])
        await self._enter(work, schedule, phases[0])

    async def _enter(self, work: Work, schedule: Document, phase: Document) -> None:
        """Gives the subscription a phase's items; where its period is just over, there is nothing to prorate."""
        subscription = await work.get("subscription", schedule["subscription"])
        known = {item["price"]["id"]: item for item in subscription["items"]["data"]}
        wanted = [
            {**item, "id": known[item["price"]]["id"]} if item["price"] in known else item for item in phase["items"]
        ]
        kept = {each["id"] for each in wanted if "id" in each}
        wanted += [{"id": item["id"], "deleted": True} for item in known.values() if item["id"] not in kept]
        items = await new_items(work, subscription, wanted, "phases[items]")
        over = item_of(subscription)["current_period_end"] <= work.at
        behavior = "none" if over else phase["proration_behavior"]
        if over:
            subscription["items"].update(data=items, total_count=len(items))
        else:
            await self._changes.apply(work, subscription, items, {"proration_behavior": behavior})
        subscription["metadata"] = merged(subscription["metadata"], phase["metadata"])
        work.tell("customer.subscription.updated", subscription)

    async def phase_over(self, work: Work, schedule: Document) -> None:
        if schedule["status"] != "active":
            return
        following = [phase for phase in schedule["phases"] if phase["start_date"] >= work.at]
        if following:
            schedule["current_phase"] = {name: following[0][name] for name in ("start_date", "end_date")}
            work.due(schedule, "change", following[0]["end_date"])
            await self._enter(work, schedule, following[0])
            work.tell("subscription_schedule.updated", schedule)
            return
        if schedule["end_behavior"] == "release":
            await self._release(work, schedule)
            return
        subscription = await work.get("subscription", schedule["subscription"])
        schedule.update(status="completed", completed_at=work.at, current_phase=None)
        work.tell("subscription_schedule.completed", schedule)
        await self._lifecycle.end(work, subscription, None)

    async def release(self, work: Work, call: Call) -> Document:
        schedule = await self._active(work, call)
        await self._release(work, schedule)
        return schedule

    async def _release(self, work: Work, schedule: Document) -> None:
        """The subscription goes on by itself, as it is."""
        subscription = await work.get("subscription", schedule["subscription"])
        subscription["schedule"] = None
        schedule.update(status="released", released_at=work.at, current_phase=None)
        schedule.update(released_subscription=subscription["id"], subscription=None)
        work.due(schedule, "change", None)
        work.tell("subscription_schedule.released", schedule)
        work.tell("customer.subscription.updated", subscription)

    async def cancel(self, work: Work, call: Call) -> Document:
        schedule = await self._active(work, call)
        subscription = await work.get("subscription", schedule["subscription"])
        await self._lifecycle.end(work, subscription, "cancellation_requested")
        return schedule

    async def subscription_ended(self, work: Work, subscription: Document) -> None:
        if subscription["schedule"] is None:
            return
        schedule = await work.get("subscription_schedule", subscription["schedule"])
        if schedule["status"] == "active":
            schedule.update(status="canceled", canceled_at=work.at, current_phase=None)
            work.due(schedule, "change", None)
            work.tell("subscription_schedule.canceled", schedule)

    async def _active(self, work: Work, call: Call) -> Document:
        schedule = await work.get("subscription_schedule", call.ids["id"])
        if schedule["status"] != "active":
            raise invalid(f"You cannot change a subscription schedule that is currently `{schedule['status']}`.")
        return schedule


def planned(schedule: Document, at: int) -> Document | None:
    """The phase that is still to come; none, if the last one runs."""
    return next((phase for phase in schedule["phases"] if phase["start_date"] > at), None)


def end_of(phase: Document, start: int, recurring: Document, where: str) -> int:
    if phase.get("end_date") is not None:
        end = int(phase["end_date"])
    elif phase.get("duration"):
        end = moved(start, phase["duration"]["interval"], phase["duration"].get("interval_count", 1))
    else:
        end = moved(start, recurring["interval"], recurring["interval_count"])
    if end <= start:
        raise invalid("A phase must end after it begins.", f"{where}[end_date]")
    return end
