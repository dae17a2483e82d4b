"""Configuration files that people edit while we run: parsed once, and again when they change.

Pages look at tiers and networks at every request, and parsing YAML takes longer than the page.
"""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml


def read_yaml(file: Path) -> Any:
    """The file's document, a copy of one's own. Raises OSError, UnicodeDecodeError and yaml.YAMLError, every time."""
    stat = file.stat()
    return deepcopy(_parsed(file, stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=32)
def _parsed(file: Path, *version: int) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))
