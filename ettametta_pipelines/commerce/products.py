"""From the shop's products to rows of `shopify_products`: one row each, texts made plain, variants reduced.

The price is the lowest of the variants that can be bought now (of all, where none can), so that what a post says is
what a buyer can pay; the stock is the sum of those the shop counts.
"""

from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

from ettametta_pipelines.money import exponent_of
from ettametta_pipelines.untrusted import plain_text
from ettametta_pipelines.vendors.shopify_products import ShopifyProduct

MAX_TITLE_CHARS = 255
MAX_DESCRIPTION_CHARS = 2000
MAX_TAGS = 250


def product_rows(products: Iterable[ShopifyProduct], currency: str) -> list[dict[str, Any]]:
    """Rows in the products' order; the same shop gives the same rows."""
    return [_row(product, currency) for product in products]


def _row(product: ShopifyProduct, currency: str) -> dict[str, Any]:
    buyable = [variant for variant in product.variants if variant.for_sale]
    prices = [variant.price.minor for variant in buyable or product.variants]
    counted = [variant.stock for variant in product.variants if variant.stock is not None]
    return {
        "product_id": product.id,
        "title": plain_text(product.title, MAX_TITLE_CHARS),
        "handle": plain_text(product.handle, MAX_TITLE_CHARS),
        "description": text_of_html(product.html),
        "product_type": plain_text(product.type, MAX_TITLE_CHARS),
        "vendor": plain_text(product.vendor, MAX_TITLE_CHARS),
        "tags": [tag for text in product.tags[:MAX_TAGS] if (tag := plain_text(text, MAX_TITLE_CHARS))],
        "status": product.status,
        "url": product.url,
        "price_minor": min(prices, default=None),
        "price_to_minor": max(prices, default=None),
        "currency": currency,
        "exponent": exponent_of(currency),
        "stock": sum(counted) if counted else None,
        "for_sale": bool(buyable),
        "variants": len(product.variants),
        "created_at": product.created_at,
        "updated_at": product.updated_at,
    }


class _Text(HTMLParser):
    """Collects what a reader sees: no tags, scripts or styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in ("script", "style")
        self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in ("script", "style")))
        self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(data)


def text_of_html(html: str) -> str:
    """What a description says, on one line of at most 2000 characters."""
    parser = _Text()
    parser.feed(html[: 10 * MAX_DESCRIPTION_CHARS])
    parser.close()
    return plain_text("".join(parser.pieces), MAX_DESCRIPTION_CHARS)
