"""Webhook endpoints: where events are delivered, which, in the shape of which version, signed with which secret."""

from __future__ import annotations

from urllib.parse import urlsplit

from .api import Call, Endpoint
from .errors import invalid
from .forms import LISTING, boolean, list_of, merged, metadata, text
from .ids import letters
from .work import Document, Work

CHANGE = {"description": text, "enabled_events": list_of(text), "metadata": metadata, "url": text}


class WebhookEndpoints:
    def endpoints(self) -> list[Endpoint]:
        base, one = "/v1/webhook_endpoints", "/v1/webhook_endpoints/{id}"
        return [
            Endpoint("POST", base, self.create, {**CHANGE, "api_version": text}, ["url", "enabled_events"]),
            Endpoint("GET", base, self.list_all, LISTING),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one, self.update, {**CHANGE, "disabled": boolean}),
            Endpoint("DELETE", one, self.delete),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        """The secret is shown here, and never again."""
        params = call.params
        check(params)
        endpoint = work.add(
            "webhook_endpoint",
            {
                "api_version": params.get("api_version"),
                "application": None,
                "description": params.get("description"),
                "enabled_events": params["enabled_events"],
                "metadata": merged({}, params.get("metadata", {})),
                "status": "enabled",
                "url": params["url"],
                "_secrets": [{"secret": new_secret(), "until": None}],
                "_thin": False,
            },
        )
        return {**endpoint, "secret": endpoint["_secrets"][0]["secret"]}

    async def list_all(self, work: Work, call: Call) -> Document:
        return await work.page("webhook_endpoint", "/v1/webhook_endpoints", call.params)

    async def get(self, work: Work, call: Call) -> Document:
        return await work.get("webhook_endpoint", call.ids["id"])

    async def update(self, work: Work, call: Call) -> Document:
        endpoint, params = await work.get("webhook_endpoint", call.ids["id"]), call.params
        check(params)
        if "disabled" in params:
            endpoint["status"] = "disabled" if params["disabled"] else "enabled"
        for name in ("description", "enabled_events", "url"):
            endpoint[name] = params.get(name, endpoint[name])
        endpoint["metadata"] = merged(endpoint["metadata"], params.get("metadata", {}))
        return endpoint

    async def delete(self, work: Work, call: Call) -> Document:
        return work.delete(await work.get("webhook_endpoint", call.ids["id"]))


def check(params: Document) -> None:
    if "url" in params and urlsplit(params["url"] or "").scheme not in ("http", "https"):
        raise invalid("Invalid URL: An explicit scheme (such as https) must be provided.", "url", code="url_invalid")
    if "enabled_events" in params and not all(params["enabled_events"] or [""]):
        raise invalid("You must provide at least one event.", "enabled_events")


def new_secret() -> str:
    return f"whsec_{letters(32)}"


def secrets_at(endpoint: Document, now: int) -> list[str]:
    """Those in force, the newest first: while one is rolled, the former is too."""
    return [each["secret"] for each in endpoint["_secrets"] if each["until"] is None or now < each["until"]]


def roll(endpoint: Document, now: int, seconds: int) -> str:
    """A new secret; the former one stays in force for so long."""
    kept = [{**each, "until": now + seconds} for each in endpoint["_secrets"] if each["until"] is None]
    endpoint["_secrets"] = [{"secret": new_secret(), "until": None}, *kept]
    return str(endpoint["_secrets"][0]["secret"])
