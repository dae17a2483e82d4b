"""What logs, exceptions and messages show of a secret: nothing."""

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from ettametta_pipelines import redaction
from ettametta_pipelines.redaction import guard_process, redact, secrets_of, without_secrets

SECRET = "an-odd-value-of-no-known-form"
SHOWN = (
    "https://example.com/upload?upload_id=abc123def&part=2",
    "https://bucket.example.com/clip.mp4?X-Amz-Signature=0badc0de&X-Amz-Date=1",
    "Authorization: Bearer abcdefghijkl",
    '{"access_token": "abcdefghijkl", "expires_in": 3600}',
    "postgresql://user:hunter2hunter2@db/state",
    "sk_live_0123456789 whsec_0123456789 ya29.0123456789 shpat_0123456789",
    "?key=abcdef",
)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What a plain handler writes of this test's logger, in a process that knows one secret."""
    known, factory = redaction._known, logging.getLogRecordFactory()
    guard_process((SECRET,))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("some.library")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    redaction._known = known
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_redacted_is_redacted_once_and_for_all(text: str) -> None:
    once = redact(text)
    assert once != text
    assert redact(once) == once
    for part in ("abc123def", "0badc0de", "abcdef", "hunter2", "0123456789"):
        assert part not in once


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "Zs")), min_size=6, max_size=40))
def test_a_value_given_is_never_shown_whatever_stands_around_it(secret: str) -> None:
    if secret not in f"before  after {redaction.REDACTED}":
        assert secret not in redact(f"before {secret} after", (secret,))


def test_secrets_are_the_values_and_parts_of_secret_settings_and_no_short_words() -> None:
    class Some(BaseModel):
        listed: SecretStr = SecretStr("awin=abcdefgh,cj=ijklmnop")
        url: SecretStr = SecretStr("smtps://me:pass%2Bword@mail.example.com")
        short: SecretStr = SecretStr("on")
        public: str = "a-public-value"

    found = secrets_of(Some())
    assert {"abcdefgh", "ijklmnop", "pass+word", Some().url.get_secret_value()} <= set(found)
    assert "on" not in found
    assert "a-public-value" not in found
    assert list(found) == sorted(found, key=len, reverse=True)


def test_any_librarys_log_record_is_without_secrets_its_arguments_and_its_exception_too(
    logged: io.StringIO,
) -> None:
    log = logging.getLogger("some.library")
    log.error("asked %s with %s", "a vendor", {"key": SECRET})
    log.error("too few arguments: %s %s", SECRET)  # noqa: PLE1206 (the mistake is the point)
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise RuntimeError("no answer") from error
    except RuntimeError:
        log.exception("it failed")
    said = logged.getvalue()
    assert SECRET not in said
    assert "asked a vendor with {'key': '[redacted]'}" in said
    assert "it failed" in said
    assert "RuntimeError: no answer" in said


def test_a_record_without_secrets_is_left_as_it_was(logged: io.StringIO) -> None:
    logging.getLogger("some.library").error("%d of %d", 1, 2)
    assert logged.getvalue() == "1 of 2\n"


def test_an_exception_is_replaced_only_when_what_it_shows_holds_a_secret(logged: io.StringIO) -> None:
    def failing(inner: str, *, hide: bool) -> BaseException:
        try:
            try:
                raise ValueError(inner)
            except ValueError:
                if hide:
                    raise RuntimeError("outer") from None
                raise RuntimeError("outer")  # noqa: B904 (what is shown of an implicit chain is the point)
        except RuntimeError as error:
            return error

    assert without_secrets(failing("harmless", hide=False)) is None
    assert without_secrets(failing(SECRET, hide=True)) is None, "a hidden cause is not shown"
    safe = without_secrets(failing(SECRET, hide=False))
    assert safe is not None
    assert SECRET not in str(safe)
    assert "RuntimeError: outer" in str(safe)
    assert "ValueError: [redacted]" in str(safe)


def test_each_of_several_secrets_in_one_setting_is_known_by_itself() -> None:
    class Some(BaseModel):
        keys: SecretStr = SecretStr("a-new-key-of-no-form, an-old-key-of-no-form")
        tokens: SecretStr = SecretStr("awin=token-of-awin,cj=token-of-cj")
        padded: SecretStr = SecretStr("bmV3LWtleS1pbi1iYXNlNjQ=")

    known = secrets_of(Some())
    for one in ("a-new-key-of-no-form", "an-old-key-of-no-form", "token-of-awin", "bmV3LWtleS1pbi1iYXNlNjQ="):
        assert redact(f"seen {one}.", known) == f"seen {redaction.REDACTED}."
