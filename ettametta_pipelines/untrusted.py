"""Text from strangers made harmless to store and to read: titles, names, model answers.

What it does not do is escape for a particular language: markdown is `previews.py`'s, SQL goes by parameters, and
prompts delimit data themselves.
"""

import re
import unicodedata

# Controls, zero-width characters and bidirectional overrides: invisible, and able to reorder what is read.
# The joiners U+200C and U+200D stay, since emoji and several scripts need them.
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


def plain_text(text: str | None, limit: int) -> str:
    """One visible line of at most `limit` characters, composed (NFC), spaces collapsed; "" for None.

    Lone surrogates, which JSON can carry and no file can hold, become question marks.
    """
    valid = (text or "")[: 4 * limit].encode("utf-8", "replace").decode()
    line = " ".join(_INVISIBLE.sub(" ", unicodedata.normalize("NFC", valid)).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
