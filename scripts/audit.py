"""Asks what is known against the pinned packages; run by `make audit` and by CI.

An audit that could not ask says NOT AUDITED and why, and is no success: it never counts a package as clean for want of
an answer. Exit 1 when something is known against a package, 0 otherwise; `--strict` makes NOT AUDITED an error too.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ("constraints.txt", "constraints-gpu.txt")
# Where advisories are: PyPI's JSON answers, and OSV, which knows more.
SERVICES = ("pypi", "osv")
PATIENCE_S = 240


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def ask(pinned: Path, service: str) -> tuple[list[dict[str, object]], str]:
    """The answer about each package, and why there is none."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(pinned), "--no-deps", "--disable-pip",
               "--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return json.loads(done.stdout)["dependencies"], ""
    except subprocess.TimeoutExpired:
        return [], f"no answer within {PATIENCE_S} s"
    except (json.JSONDecodeError, KeyError):
        said = done.stderr.strip().splitlines()
        return [], said[-1][:200] if said else f"pip-audit ended with {done.returncode} and said nothing"


def report(pinned: Path) -> tuple[int, bool]:
    """Print what is known; how many packages something is known against, and whether all were asked about."""
    for service in SERVICES:
        answers, why = ask(pinned, service)
        asked = [one for one in answers if "skip_reason" not in one]
        if asked:
            break
        skipped = Counter(str(one["skip_reason"]).partition(":")[0] for one in answers)
        why = why or "; ".join(f"{count} packages: {reason}" for reason, count in skipped.items())
        say(f"{pinned.name}: NOT AUDITED by {service}: {why}")
    else:
        return 0, False
    bad = [one for one in asked if one["vulns"]]
    for one in bad:
        for known in one["vulns"]:  # type: ignore[attr-defined]
            say(
                f"{one['name']} {one['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or '–'}"
            )
    left = len(answers) - len(asked)
    say(f"{pinned.name}: {len(asked)} packages asked about at {service}, {len(bad)} with something known against them"
          + (f"; NOT AUDITED: {left}" if left else ""))  # fmt: skip
    return len(bad), not left


def main() -> int:
    results = [report(ROOT / name) for name in LISTS]
    if any(count for count, _ in results):
        return 1
    return int("--strict" in sys.argv and not all(complete for _, complete in results))


if __name__ == "__main__":
    sys.exit(main())
