"""The answer of every OAuth token endpoint, as one value. Storing and rotating tokens is `publishing/`'s business."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenSet:
    """Tokens of one connected account; `repr` hides them.

    `expires_in_s` and `refresh_expires_in_s` count from the moment of the answer. `refresh_token` is None when the
    vendor keeps the old one valid. `subject` is the vendor's id of the account (TikTok `open_id`) where it gives one.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in_s: int
    refresh_expires_in_s: int | None
    scopes: tuple[str, ...]
    subject: str | None = None
