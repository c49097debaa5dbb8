"""The plain HTML of the hosted pages: what is to be paid, and buttons for whoever pays."""

from __future__ import annotations

from html import escape
from typing import Any

from aiohttp import web

from .payment_methods import ACCOUNTS, CARDS
from .work import Document

STYLE = "body{font:16px sans-serif;max-width:34em;margin:3em auto}button{margin:.3em 0}.wrong{color:#b00}"
SAYS = {
    "pays": "pays",
    "declines": "is declined when it is charged",
    "authenticates": "asks its owner each time",
    "disputed": "pays, and is disputed afterwards",
    "refused": "is declined at once",
}


def page(title: str, body: str, status: int = 200) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>{body}<p><small>Sandbox: no money moves.</small></html>"
    )
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def wrong(message: str | None) -> str:
    return f'<p class="wrong" role="alert">{escape(message)}</p>' if message else ""


def money(amount: int, currency: str) -> str:
    return f"{amount / 100:,.2f} {currency.upper()}"


def plan(name: str, item: Document) -> str:
    price = item["price"]
    recurring = price["recurring"]
    every = (
        recurring["interval"]
        if recurring["interval_count"] == 1
        else f"{recurring['interval_count']} {recurring['interval']}s"
    )
    amount = money((price["unit_amount"] or 0) * item["quantity"], price["currency"])
    return f"{escape(name)} × {item['quantity']}: {amount} every {every}"


def hidden(**fields: Any) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(str(value))}">' for name, value in fields.items()
    )


def button(text: str, **fields: Any) -> str:
    return f'<form method="post">{hidden(**fields)}<button>{escape(text)}</button></form>'


def methods() -> str:
    """A choice among the test cards and accounts."""
    offered = [(card.number, f"Card {card.number}", card.conduct) for card in CARDS]
    offered += [(account.iban, f"SEPA debit {account.iban}", account.conduct) for account in ACCOUNTS]
    return "".join(
        f'<p><label><input type="radio" name="number" value="{number}"{" checked" if row == 0 else ""}> '
        f"{text}: {SAYS[conduct]}</label>"
        for row, (number, text, conduct) in enumerate(offered)
    )


def pay_form(text: str, more: str = "") -> str:
    return f'<form method="post">{more}{methods()}<button name="action" value="pay">{escape(text)}</button></form>'


def authentication(**fields: Any) -> web.Response:
    """What a bank shows: its customer says yes or no."""
    yes = button("Complete authentication", **fields, action="pay", authenticated="true")
    no = button("Fail authentication", **fields, action="pay", authenticated="false")
    return page("Your bank wants to know that it is you", yes + no)


def gone(text: str) -> web.Response:
    return page(text, "", 410)
