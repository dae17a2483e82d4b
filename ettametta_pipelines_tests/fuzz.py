"""What the property and fuzz tests share: how many examples they try, and how a valid input is spoilt.

`make test` tries few, the same ones each time; `make fuzz` sets FUZZ_EXAMPLES and tries as many others.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))

# What parsers of text, numbers and JSON have stumbled over.
FRAGMENTS = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"\\u0000", b"1" * 5000, b"-", b"1e999", b"NaN", b"-Infinity",
    b"[" * 2000, b'{"a":' * 1000, b"[", b"]", b"{}", b"}", b'"', b"null", b"\r", b"\n\n", b"\xe2\x80\xae",
    b"\xed\xa0\x80", b"-->", b"%00", b"../", b"<i>" * 50, b"&amp;" * 50, b"#1",
)  # fmt: skip


def tried(short: int, *, dear: int = 1, **more: Any) -> settings:
    """Settings of one test: `short` examples, or FUZZ_EXAMPLES; of a `dear` one as many times fewer."""
    return settings(
        max_examples=max(short, FUZZ_EXAMPLES // dear),
        derandomize=not FUZZ_EXAMPLES,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
        **more,
    )  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """One of the valid inputs with up to four places overwritten."""
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 24)))
        data = data[:start] + draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=8)) + data[end:]
    return data


# Text as JSON may carry it, lone surrogates included.
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(st.characters(), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def misfitting(draw: st.DrawFn, valid: Sequence[dict[str, Any]]) -> bytes:
    """A JSON document of a valid shape, in which one to three values are anything at all."""
    document = json.loads(json.dumps(draw(st.sampled_from(valid))))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or draw(st.booleans()):
                place[key] = draw(anything)
                break
            place = place[key]
    return json.dumps(document).encode()
