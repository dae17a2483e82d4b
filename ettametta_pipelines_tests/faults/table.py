"""`python -m ettametta_pipelines_tests.faults.table [ROW ...]`: what must hold under every fault, shown in one table.

Each row runs in a process and a fresh directory of its own, within its time, two at a time; sweeps run alone, on all
processors. `--list` names the rows, `--without-sweeps` leaves the long ones out. Exit code 1 when one does not hold.
What a row does is in `rows_*.py`; rows that have tests run those.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import ettametta_pipelines
from ettametta_pipelines_tests.faults import rows_disk, rows_runs, rows_state, rows_wire
from ettametta_pipelines_tests.faults.outcome import Outcome, Play

ROOT = Path(ettametta_pipelines.__file__).parents[1]
TESTS = "ettametta_pipelines_tests"
SEED = "7"
# Process groups of the rows that run now.
RUNNING: set[int] = set()


@dataclass(frozen=True)
class Row:
    """One fault. `limit_s` is when the row counts as broken; a `sweep` runs alone and is told line by line."""

    name: str
    must_hold: str
    injected: str
    play: Play
    # Many times what it takes where the machine has nothing else to do.
    limit_s: float = 1200
    is_sweep: bool = False


def tests(*ids: str) -> Play:
    """Runs tests by `file::name` without their parameters; all must pass."""

    def play(home: Path) -> Outcome:
        report = home / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout=1000",
             f"--basetemp={home / 'pytest'}", f"--junitxml={report}", *(f"{TESTS}/{each}" for each in ids)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not report.exists():
            return Outcome(
                broken=[f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}"]
            )
        suite = ElementTree.parse(report).getroot().find("testsuite")
        counts = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}  # type: ignore[union-attr]
        ran = counts["tests"] - counts["skipped"]
        passed = ran - counts["failures"] - counts["errors"]
        skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
        outcome = Outcome([f"{passed} of {ran} tests pass{skipped}"])
        wrong = re.findall(r"^(?:FAILED|ERROR) (?:\S+::)?(\S+)", done.stdout, re.MULTILINE)
        outcome.must(done.returncode == 0, f"failed: {', '.join(wrong[:3]) or done.stdout[-300:]}")
        outcome.must(ran > 0, "every test was skipped")
        return outcome

    return play


def together(*plays: Play) -> Play:
    """One after another in the same row."""

    def play(home: Path) -> Outcome:
        told = Outcome()
        for number, each in enumerate(plays):
            place = home / str(number)
            place.mkdir()
            told += each(place)
        return told

    return play


def sweep(*program: str, **variables: str) -> Play:
    """Runs a sweep; what it writes is shown, and its last line is the figure."""

    def play(home: Path) -> Outcome:
        last = ""
        with subprocess.Popen(
            [sys.executable, "-m", *program],
            cwd=ROOT,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                sys.stderr.write(line)
                last = line.strip() or last
        outcome = Outcome([last.strip("= ")])
        outcome.must(process.returncode == 0, f"the sweep ended with {process.returncode}")
        return outcome

    return play


def _in_family(name: str) -> Callable[[rows_runs.Scenario], bool]:
    return lambda each: each.family == name


def _under(*words: str) -> Callable[[rows_runs.Scenario], bool]:
    return lambda each: each.family == "kill" and any(word in each.fault.name for word in words)


ROWS: tuple[Row, ...] = (
    Row("publications", "one post or a person is asked, at every point", "kill -9 at CP1–CP25 × vendors' faults",
        sweep(f"{TESTS}.faults"), 6000, is_sweep=True),
    Row("paid-clips", "a clip is charged once at most", "kill -9 × faults of three vendors",
        sweep(f"{TESTS}.faults.clips"), 3600, is_sweep=True),
    Row("gpu-work", "no orphan, no clip lost", "kill -9 of worker, run, node", sweep(f"{TESTS}.faults.gpu"), 3600,
        is_sweep=True),
    Row("hostile-media", "a verdict for each, no connection, no leak, no slot lost, the next good one is rendered",
        "some 150 hostile uploads, to a directory and to a bucket that floods (make hostile)",
        sweep(f"{TESTS}.faults.hostile"), 2400, is_sweep=True),
    Row("slot-races", "never more slots than the plan has", "50 racers for 5 slots",
        sweep("pytest", "-p", "no:cacheprovider", "--timeout=1500", f"{TESTS}/billing/test_races.py",
              RACE_ROUNDS=os.environ.get("RACE_ROUNDS", "20")), 3600, is_sweep=True),
    Row("worker-killed", "run again without a second post", "kill -9 around the last events of a Dagster run",
        tests("faults/test_dagster_kills.py")),
    Row("daemon-killed", "each upload has one run, none is lost", "kill -9 of a daemon and its code server mid-tick",
        tests("automation/test_daemon_recovery.py")),
    Row("two-daemons", "no upload without its run, one post each, and it is said", "two daemons on one instance",
        together(rows_runs.two_daemons, rows_runs.of_the_matrix(_in_family("racing")))),
    Row("frozen-worker", "a stale fence writes nothing", "SIGSTOP past the lease, SIGCONT after another's work",
        rows_runs.of_the_matrix(_in_family("frozen"), every=2)),
    Row("postgres-dies", "nothing lost or by half, back in 60 s, the gateway says 503",
        "`pg_ctl stop -m immediate`, pg_terminate_backend, under writers",
        together(rows_state.postgres_dies, tests(
            "gateway/test_webhook_rows.py::test_w10_a_stopped_postgres_is_answered_with_503"))),
    Row("postgres-vanishes", "a run does not wait for ever", "network namespace whose only line goes down",
        rows_wire.host_vanishes),
    Row("sqlite-locked", "no write lost, readers do not wait", "BEGIN IMMEDIATE held 10 s by another process",
        rows_state.sqlite_locked),
    Row("disk-full", "clear refusal, no partial table, sound ledger, goes on with room again",
        "tmpfs of 12 MB in a mount namespace; RLIMIT_FSIZE at each write of a post",
        together(rows_state.disk_full, rows_runs.of_the_matrix(lambda each: each.crash == "CP21 disk full"))),
    Row("slow-disk", "what was answered is there, nothing by half, readers do not wait, the rest is told to come again",
        "strace holds every fsync up 0.25 s; the process at nice 19, kill -9", rows_disk.slow_disk, 600),
    Row("s3-trouble", "done within its tries, or refused as transient; bytes intact", "moto behind a proxy of faults",
        together(rows_wire.s3_in_trouble, tests(
            "storage/test_objects.py::test_an_answer_that_breaks_off_is_never_taken_for_the_object",
            "storage/test_objects.py::test_a_create_whose_answer_was_lost_finds_its_own_object"))),
    Row("s3-silent", "given up", "a line that takes requests and never answers", rows_wire.s3_silent),
    Row("lines", "timeouts everywhere, big files go on where they were", "TCP proxy: late, cut, silent, cut every 3 MB",
        together(rows_wire.lines_break, rows_wire.postgres_line,
                 tests("faults/test_publication_faults.py::test_a_file_over_a_line_that_keeps_breaking_is_posted_once_with_little_sent_twice"))),
    Row("quota-spent", "left alone until the reset, others go on", "429 and quotaExceeded of the sandbox",
        together(rows_runs.of_the_matrix(_under("429", "quotaExceeded", "rate limit"), every=5), tests(
            "vendors/test_youtube.py::test_a_spent_quota_waits_until_midnight_pacific",
            "vendors/test_http.py::test_a_long_wait_is_handed_up_instead_of_slept",
            "publishing/test_youtube_upload.py::test_an_exhausted_quota_leaves_no_trace_and_sends_nothing",
            "discovery/test_snapshots.py::test_a_spent_quota_leaves_the_rest_for_the_next_hour_and_says_so"))),
    Row("500-after-commit", "done once", "the vendor does it and answers 500",
        together(rows_runs.of_the_matrix(_under("500 after"), every=3), tests(
            "billing/test_plans.py::test_a_customer_is_made_once_also_when_the_answer_was_lost",
            "gateway/test_billing_pages.py::test_an_upgrade_sent_twice_from_one_page_is_charged_once"))),
    Row("token-revoked", "one alert, no loop, nothing posted twice", "401 in each call; a consent that is withdrawn",
        together(rows_runs.of_the_matrix(_under("401 at"), every=6), tests(
            "publishing/test_token_bar.py::test_t3_killed_after_the_vendor_rotated_ends_in_one_alert_and_no_loop",
            "publishing/test_token_bar.py::test_t5_without_consent_nothing_is_posted_and_nothing_asked_again",
            "publishing/test_token_bar.py::test_t4_a_vendor_that_fails_costs_no_pair_and_is_left_alone_for_longer_each_time"))),
    Row("clock-skew", "leases, periods and signatures by the right clock", "libfaketime and injected clocks, ±10 min",
        together(rows_runs.clocks_differ, tests(
            "publishing/test_hostile.py::test_a_worker_whose_clock_is_ten_minutes_off_takes_no_living_lease_and_spends_one_slot",
            "publishing/test_token_bar.py::test_t13_a_vendor_whose_clock_is_five_minutes_off_costs_one_refresh_at_most",
            "billing/test_reservations.py::test_q16_a_worker_whose_clock_is_wrong_counts_in_the_databases_period",
            "gateway/test_webhook_rows.py::test_w4_a_signature_from_five_minutes_ago_or_ahead_is_refused"))),
    Row("calendar", "each day, month and period once", "days of 23 and 25 h, 29 February, ends of months", tests(
        "test_clock.py", "billing/test_periods.py",
        "discovery/test_window.py::test_a_day_on_which_clocks_change_has_its_own_length",
        "automation/test_schedules.py::test_every_day_of_a_year_is_discovered_once_also_where_clocks_change",
        "revenue/test_ledger.py::test_days_around_a_clock_change_hold_every_row_exactly_once",
        "state/test_spend_cap.py::test_a_month_ends_at_the_business_zones_midnight")),
    Row("doubled-ticks", "one run a content", "ticks and bucket events twice, late, out of order", tests(
        "media/test_inbox.py::test_a_reset_cursor_or_a_second_daemon_repeats_nothing",
        "media/test_inbox.py::test_nothing_is_missed_or_repeated_in_any_order_of_arrival_with_equal_times",
        "automation/test_upload_sensor.py::test_an_upload_becomes_one_partition_and_one_run_and_never_again",
        "media/test_upload_queue.py::test_doubled_disordered_and_late_messages_take_each_upload_once",
        "gateway/test_webhook_rows.py::test_w2_the_same_event_a_hundred_times_at_once_is_one_row")),
    Row("ffmpeg-out-of-memory", "tried again, nothing left, no slot lost", "RLIMIT_AS; kill -9 of ffmpeg", tests(
        "renders/test_ffmpeg.py::test_memory_is_limited",
        "renders/test_faults.py::test_too_little_memory_is_worth_another_try",
        "renders/test_faults.py::test_a_killed_ffmpeg_is_worth_another_try_and_leaves_nothing",
        "synthesis/test_pods.py::test_who_killed_the_worker_is_told_apart",
        "billing/test_reservations.py::test_q3_a_slot_of_a_killed_run_returns_with_its_lease_and_not_before")),
    Row("poison", "parked after its tries, the queue moves on", "messages that crash or kill their handler", tests(
        "state/test_inbox.py::test_poison_is_parked_with_its_reason_after_three_tries_and_stops_nobody",
        "state/test_inbox.py::test_what_kills_its_worker_each_time_is_parked_as_well",
        "media/test_upload_queue.py::test_a_poison_message_is_named_left_to_the_dead_letters_and_at_last_taken_off",
        "operations/test_alert_delivery.py::test_a_message_that_kills_its_process_each_time_is_parked")),
    Row("names-and-tls", "told fast and by name, nothing sent", "a name that does not exist, an expired certificate",
        rows_wire.names_and_certificates),
    Row("restored-backup", "what is posted is found, nothing posted again", "an old copy of the ledger, platform ahead",
        rows_runs.of_the_matrix(_in_family("restored"))),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="table", description=__doc__)
    parser.add_argument("rows", nargs="*", help="rows by name; all of them if none is named")
    parser.add_argument("--without-sweeps", action="store_true", help="leave the long sweeps out")
    parser.add_argument("--list", action="store_true", help="name the rows and what must hold")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/faults.md has it")
    parser.add_argument("--play", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    rows = {row.name: row for row in ROWS}
    if unknown := sorted(set(asked.rows) - set(rows)):
        parser.error(f"no row is named {', '.join(unknown)}; there are {', '.join(rows)}")
    if asked.play:
        return _play_here(rows[asked.play[0]], Path(asked.play[1]))
    chosen = [row for row in ROWS if row.name in asked.rows or not asked.rows]
    chosen = [row for row in chosen if not (asked.without_sweeps and row.is_sweep)]
    if asked.list:
        sys.stdout.writelines(f"{row.name:<22}{row.must_hold}\n" for row in chosen)
        return 0
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    others = [row for row in chosen if not row.is_sweep]
    with ThreadPoolExecutor(2) as pool:
        try:
            played = {row.name: played_apart(row) for row in chosen if row.is_sweep}
            played |= dict(zip((row.name for row in others), pool.map(played_apart, others), strict=True))
        except BaseException:
            # Rows have process groups of their own: what ends this process would not end them.
            pool.shutdown(wait=False, cancel_futures=True)
            for group in list(RUNNING):
                os.killpg(group, signal.SIGKILL)
            raise
    tabled = as_markdown if asked.markdown else as_table
    sys.stdout.write("\n" + tabled((row, *played[row.name]) for row in chosen) + "\n")
    broken = [row.name for row in chosen if not played[row.name][0].is_held]
    sys.stdout.write(
        f"\n{len(chosen) - len(broken)} of {len(chosen)} rows held in {time.monotonic() - began:.0f} s"
        f"{'; NOT ' + ', '.join(broken) if broken else ''}\n"
    )
    return 1 if broken else 0


def _play_here(row: Row, home: Path) -> int:
    """In the row's own process: play, and leave the outcome as a file."""
    try:
        outcome = row.play(home)
    except Exception as error:  # noqa: BLE001 (a row that breaks did not hold, and the others go on)
        outcome = Outcome(broken=[f"{type(error).__name__}: {error}"[:400]])
    (home / "outcome.json").write_text(json.dumps({"figures": outcome.figures, "broken": outcome.broken}))
    return 0


def played_apart(row: Row) -> tuple[Outcome, float]:
    """The row in a process group of its own, ended with all it started when its time is over; and its seconds."""
    home = Path(tempfile.mkdtemp(prefix="ettametta-fault-"))
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"{TESTS}.faults.table", "--play", row.name, str(home)],
        cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": SEED, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=None if row.is_sweep else subprocess.DEVNULL,
    )  # fmt: skip
    RUNNING.add(process.pid)
    try:
        process.wait(timeout=row.limit_s)
        told = json.loads((home / "outcome.json").read_text())
        outcome = Outcome(told["figures"], told["broken"])
    except subprocess.TimeoutExpired:
        outcome = Outcome(broken=[f"not over after {row.limit_s:.0f} s"])
    except FileNotFoundError:
        outcome = Outcome(broken=[f"its process ended with {process.returncode}"])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        RUNNING.discard(process.pid)
        shutil.rmtree(home, ignore_errors=True)
    seconds = time.monotonic() - began
    sys.stderr.write(f"{row.name}: {'held' if outcome.is_held else 'NOT HELD'} ({seconds:.0f} s)\n")
    return outcome, seconds


COLUMNS = (("fault", 21), ("what must hold", 34), ("", 9), ("figures", 78), ("s", 5))


def as_table(lines: Iterable[tuple[Row, Outcome, float]]) -> str:
    """One block of wrapped lines a row."""
    text = [_wrapped([name for name, _ in COLUMNS]), "-" * sum(width + 1 for _, width in COLUMNS)]
    for row, outcome, seconds in lines:
        said = "; ".join([*(f"BROKEN: {each}" for each in outcome.broken), *outcome.figures])
        is_held = "held" if outcome.is_held else "NOT HELD"
        text.append(
            _wrapped([row.name, f"{row.must_hold} ({row.injected})", is_held, said, f"{seconds:.0f}"])
        )
    return "\n".join(text)


def as_markdown(lines: Iterable[tuple[Row, Outcome, float]]) -> str:
    """The same for a page: fault, what must hold, how it is injected, figures, seconds."""
    text = ["| fault | what must hold | injected by | | measured | s |", "|---|---|---|---|---|---|"]
    for row, outcome, seconds in lines:
        said = "; ".join([*(f"BROKEN: {each}" for each in outcome.broken), *outcome.figures])
        is_held = "held" if outcome.is_held else "NOT HELD"
        cells = (row.name, row.must_hold, row.injected, is_held, said, f"{seconds:.0f}")
        text.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(text)


def _wrapped(cells: Sequence[str]) -> str:
    columns = [textwrap.wrap(cell, width) or [""] for cell, (_, width) in zip(cells, COLUMNS, strict=True)]
    height = max(map(len, columns))
    return "\n".join(
        " ".join(
            f"{column[line] if line < len(column) else '':<{width}}"
            for column, (_, width) in zip(columns, COLUMNS, strict=True)
        ).rstrip()
        for line in range(height)
    )


if __name__ == "__main__":
    sys.exit(main())
