"""The page of a checkout session: the plan, the ways to pay, and the way back to the shop."""

from __future__ import annotations

from html import escape

from aiohttp import web

from .checkout import Checkout
from .errors import StripeError
from .ledger import Ledger
from .pages import authentication, gone, money, page, pay_form, plan, wrong
from .paying import NeedsOwner, form_of
from .work import Document, Work

ADDRESS = "/c/pay/{id}"


class CheckoutPage:
    def __init__(self, ledger: Ledger, checkout: Checkout) -> None:
        self._ledger = ledger
        self._checkout = checkout

    def routes(self) -> list[web.RouteDef]:
        return [web.get(ADDRESS, self.show), web.post(ADDRESS, self.act)]

    async def show(self, request: web.Request, problem: str | None = None) -> web.Response:
        async with self._ledger.work() as work:
            session = await self._session(work, request)
            if session["status"] != "open":
                return gone("This page has expired" if session["status"] == "expired" else "You're all done here")
            plans = [await self._plan(work, item) for item in session["_items"]]
        known = session["customer_details"]
        email = f"<p>{escape(known['email'])}</p>" if known else ""
        asked = "" if known else '<p><label>Email <input name="email" type="email" required></label>'
        due = money(session["amount_total"], session["currency"])
        back = f'<p><a href="{escape(session["cancel_url"])}">Back</a>' if session["cancel_url"] else ""
        listed = "".join(f"<li>{each}</li>" for each in plans)
        body = f"{wrong(problem)}<ul>{listed}</ul><p>Due today: {due}</p>{email}{pay_form('Subscribe', asked)}{back}"
        return page("Subscribe", body, 402 if problem else 200)

    async def _plan(self, work: Work, item: Document) -> str:
        price = await work.get("price", item["price"])
        product = await work.get("product", price["product"])
        return plan(str(product.get("name")), {"price": price, "quantity": item["quantity"]})

    async def act(self, request: web.Request) -> web.Response:
        fields = await form_of(request)
        try:
            async with self._ledger.work() as work:
                session = await self._session(work, request)
                await self._checkout.complete(work, session, fields)
        except NeedsOwner:
            return authentication(number=fields.get("number"), email=fields.get("email", ""))
        except StripeError as refused:
            return await self.show(request, refused.message)
        raise web.HTTPSeeOther(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]))

    async def _session(self, work: Work, request: web.Request) -> Document:
        try:
            return await work.get("checkout.session", request.match_info["id"])
        except StripeError:
            raise web.HTTPNotFound from None
