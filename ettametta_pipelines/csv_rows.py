"""CSV files that people bring: UTF-8 with or without a mark, a header of agreed columns in any order, one row a line.

What the fields mean, and what a bad file is called, is the caller's business: commissions and affiliate links.
"""

import csv
import io
from collections.abc import Collection, Iterator

from ettametta_pipelines.untrusted import plain_text


class NoCsv(ValueError):
    """The file cannot be read at all; the text says why."""


def csv_rows(
    data: bytes, required: Collection[str], optional: Collection[str]
) -> Iterator[tuple[int, dict[str, str] | None]]:
    """(line number, fields) of each row; None for a row with another number of fields than the header. Raises NoCsv."""
    try:
        text = data.decode("utf-8-sig")
        # What a browser sent that was no UTF-8 has become this sign on its way.
        if "\ufffd" in text:
            raise NoCsv("it is no CSV in UTF-8 (some letters cannot be read)")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in required if name not in header]
        strange = [plain_text(name, 40) for name in header if name not in (*required, *optional)]
        if missing or strange or len(set(header)) < len(header):
            raise NoCsv(
                f"its first line must name {', '.join(required)} and may name {', '.join(optional)}, each once"
                + (f"; missing: {', '.join(missing)}" if missing else "")
                + (f"; unknown: {', '.join(strange[:5])}" if strange else "")
            )
        reader.fieldnames = header
        for fields in reader:
            # A row longer than the header has its rest under None, a shorter one None as a value.
            whole = None not in fields and None not in fields.values()
            yield reader.line_num, fields if whole else None
    except (UnicodeDecodeError, csv.Error) as error:
        raise NoCsv(f"it is no CSV in UTF-8 ({error.__class__.__name__})") from None
