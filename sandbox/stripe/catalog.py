"""Products and their prices; a price is found again by its lookup key, which can move from one to another."""

from __future__ import annotations

from .api import Call, Endpoint
from .errors import invalid
from .forms import LISTING, boolean, choice, hash_of, list_of, merged, metadata, natural, text
from .work import Document, Work

BLANK_PRODUCT: Document = {
    "active": True,
    "default_price": None,
    "description": None,
    "images": [],
    "marketing_features": [],
    "package_dimensions": None,
    "shippable": None,
    "statement_descriptor": None,
    "tax_code": None,
    "type": "service",
    "unit_label": None,
    "url": None,
}
BLANK_PRICE: Document = {
    "active": True,
    "billing_scheme": "per_unit",
    "custom_unit_amount": None,
    "lookup_key": None,
    "nickname": None,
    "recurring": None,
    "tax_behavior": "unspecified",
    "tiers_mode": None,
    "transform_quantity": None,
    "type": "one_time",
    "unit_amount": 0,
}
OF_PRODUCT = {
    "active": boolean,
    "description": text,
    "metadata": metadata,
    "name": text,
    "statement_descriptor": text,
    "unit_label": text,
    "url": text,
}
RECURRING = hash_of(
    {
        "interval": choice("day", "week", "month", "year"),
        "interval_count": natural,
        "usage_type": choice("licensed"),
        "trial_period_days": natural,
    },
    ["interval"],
)
OF_PRICE = {
    "active": boolean,
    "lookup_key": text,
    "metadata": metadata,
    "nickname": text,
    "tax_behavior": choice("inclusive", "exclusive", "unspecified"),
    "transfer_lookup_key": boolean,
}
NEW_PRICE = {
    **OF_PRICE,
    "currency": text,
    "product": text,
    "product_data": hash_of({**OF_PRODUCT, "id": text}, ["name"]),
    "recurring": RECURRING,
    "unit_amount": natural,
}
PRICES = {
    **LISTING,
    "active": boolean,
    "currency": text,
    "lookup_keys": list_of(text),
    "product": text,
    "type": choice("one_time", "recurring"),
}


class Catalog:
    def endpoints(self) -> list[Endpoint]:
        product, price = "/v1/products/{id}", "/v1/prices/{id}"
        products = {**LISTING, "active": boolean, "ids": list_of(text)}
        return [
            Endpoint("POST", "/v1/products", self.create_product, {**OF_PRODUCT, "id": text}, ["name"]),
            Endpoint("GET", "/v1/products", self.list_products, products),
            Endpoint("GET", product, self.get_product),
            Endpoint("POST", product, self.update_product, {**OF_PRODUCT, "default_price": text}),
            Endpoint("DELETE", product, self.delete_product),
            Endpoint("POST", "/v1/prices", self.create_price, NEW_PRICE, ["currency"]),
            Endpoint("GET", "/v1/prices", self.list_prices, PRICES),
            Endpoint("GET", price, self.get_price),
            Endpoint("POST", price, self.update_price, OF_PRICE),
        ]

    async def create_product(self, work: Work, call: Call) -> Document:
        return await new_product(work, call.params)

    async def list_products(self, work: Work, call: Call) -> Document:
        params = call.params
        if params.get("ids"):
            params["_field"], params["_any"] = "id", params["ids"]
        return await work.page("product", "/v1/products", params, active=params.get("active"))

    async def get_product(self, work: Work, call: Call) -> Document:
        return await work.alive("product", call.ids["id"])

    async def update_product(self, work: Work, call: Call) -> Document:
        product = await work.alive("product", call.ids["id"])
        if call.params.get("default_price"):
            await work.get("price", call.params["default_price"], "default_price", 400)
        take(product, call.params)
        product["updated"] = work.at
        work.tell("product.updated", product)
        return product

    async def delete_product(self, work: Work, call: Call) -> Document:
        product = await work.alive("product", call.ids["id"])
        if await work.find("price", product=product["id"]):
            raise invalid("This product cannot be deleted because it has one or more user-created prices.")
        work.tell("product.deleted", product)
        return work.delete(product)

    async def create_price(self, work: Work, call: Call) -> Document:
        params = call.params
        if ("product" in params) == ("product_data" in params):
            raise invalid("You must specify either `product` or `product_data`.", "product")
        if "product_data" in params:
            product = await new_product(work, params.pop("product_data"))
        else:
            product = await work.alive("product", params["product"], "product", 400)
        price = work.add("price", {**BLANK_PRICE, "metadata": {}, "product": product["id"]})
        recurring = params.get("recurring")
        if recurring is not None:
            more = {"interval_count": 1, "meter": None, "trial_period_days": None, "usage_type": "licensed"}
            params["recurring"] = {**more, **recurring}
            price["type"] = "recurring"
        params["currency"] = str(params["currency"]).lower()
        params["product"] = product["id"]
        await self._key(work, price, params)
        take(price, params)
        price["unit_amount_decimal"] = str(price["unit_amount"])
        work.tell("price.created", price)
        return price

    async def _key(self, work: Work, price: Document, params: Document) -> None:
        """Takes the lookup key from the price that has it, if that is wanted."""
        transfer, key = params.pop("transfer_lookup_key", False), params.get("lookup_key")
        if key is None:
            return
        for holder in await work.find("price", lookup_key=key):
            if holder["id"] == price["id"]:
                continue
            if not transfer:
                raise invalid(f"A price (`{holder['id']}`) already uses that lookup key.", "lookup_key")
            holder["lookup_key"] = None
            await spread(work, holder)
            work.tell("price.updated", holder)

    async def list_prices(self, work: Work, call: Call) -> Document:
        params = call.params
        if params.get("lookup_keys"):
            params["_field"], params["_any"] = "lookup_key", params["lookup_keys"]
        like = {name: params.get(name) for name in ("active", "currency", "product", "type")}
        return await work.page("price", "/v1/prices", params, **like)

    async def get_price(self, work: Work, call: Call) -> Document:
        return await work.get("price", call.ids["id"])

    async def update_price(self, work: Work, call: Call) -> Document:
        price = await work.get("price", call.ids["id"])
        await self._key(work, price, call.params)
        take(price, call.params)
        await spread(work, price)
        work.tell("price.updated", price)
        return price


async def new_product(work: Work, params: Document) -> Document:
    wanted = {"id": params.pop("id")} if params.get("id") else {}
    if wanted and await work.is_taken(wanted["id"]):
        raise invalid("Product already exists.", "id", code="resource_already_exists")
    product = work.add("product", {**BLANK_PRODUCT, "metadata": {}, "updated": work.at, **wanted})
    take(product, params)
    work.tell("product.created", product)
    return product


async def spread(work: Work, price: Document) -> None:
    """A subscription shows its prices as they are now."""
    for subscription in await work.find("subscription", items={"data": [{"price": {"id": price["id"]}}]}):
        for item in subscription["items"]["data"]:
            if item["price"]["id"] == price["id"]:
                item["price"] = dict(price)


def take(document: Document, params: Document) -> None:
    """Sets what was given; metadata are merged."""
    for name, value in params.items():
        if name == "metadata":
            document["metadata"] = merged(document["metadata"], value)
        elif name != "expand":
            document[name] = value
