"""A day of an operator in the browser, against a real `ettametta dev`: UI, daemon, gateway and sandbox.

The steps build on one another and share one home, so they run in this order and in one process. With HANDBOOK_PICTURES
set to a directory, each leaves the picture that the operator's handbook shows.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines_tests.browser.dev import Dev
from ettametta_pipelines_tests.end_to_end.clips import make_clip

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for left-over processes under /proc"),
]
ACCOUNT, TITLE = "studio", "A walk by the sea"
RUN_WAIT_MS = 180_000


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """Running, with one video that was uploaded and rendered, and one file that is no video."""
    home = tmp_path_factory.mktemp("operators-day")
    running = Dev(home)
    try:
        running.wait_until_ready()
        about = ("--account", ACCOUNT, "--niche", "travel", "--rights", "owned")
        running.run("upload", str(make_clip(home / "clip.mp4", seed=7)), *about, "--title", TITLE)
        running.wait_for("three renditions", lambda: len(running.renditions()) == 3)
        # After the video, whose check would else be the newest.
        noise = home / "noise.mp4"
        noise.write_bytes(os.urandom(20_000))
        running.run("upload", str(noise), *about)
        yield running
    finally:
        running.stop()


@pytest.fixture
def ui(page: "Page", dev: Dev) -> "Ui":
    return Ui(page, dev)


class Ui:
    """The Dagster UI as far as an operator's hands reach."""

    def __init__(self, page: "Page", dev: Dev) -> None:
        self.page = page
        self.dev = dev

    @property
    def source(self) -> str:
        """Partition of the uploaded video."""
        return self.dev.renditions()[0].parts[2]

    def open(self, path: str) -> None:
        self.page.goto(self.dev.ui + path)

    def shows(self, text: str) -> None:
        """Wait until the page shows the text."""
        self.page.get_by_text(text).first.wait_for(timeout=RUN_WAIT_MS)

    def open_partition(self, asset: str) -> None:
        self.open(f"/assets/{asset}?view=partitions&partition={self.source}")
        self.shows("Latest materialization")

    def launch(self, job: str, *, change: tuple[str, str] | None = None) -> None:
        """Launch a job for the uploaded video as the handbook says, and watch the run to its end.

        `change` is a word of the configuration, and the one to put in its place.
        """
        page = self.page
        self.open("/jobs")
        page.get_by_text(job, exact=True).first.click()
        page.get_by_role("button", name="Materialize").locator("xpath=following::button[1]").click()
        page.get_by_text("Open launchpad").click()
        dialog = page.get_by_role("dialog")
        self.choose_partition()
        dialog.get_by_text("partition_set").wait_for()
        # What says "Copy tag" lies over the configuration while the mouse is above a tag.
        page.mouse.move(5, 5)
        if change is not None:
            there, wanted = change
            dialog.get_by_text(f"'{there}'", exact=True).dblclick()
            page.keyboard.insert_text(wanted)
        dialog.get_by_text("No errors").wait_for()
        self.picture(f"launchpad-{job}")
        dialog.get_by_role("button").filter(has_text=re.compile("^Materialize$")).click()
        page.wait_for_url("**/runs/**")
        ended = page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
        ended.wait_for(timeout=RUN_WAIT_MS)
        assert ended.inner_text() == "Success", page.inner_text("body")

    def choose_partition(self) -> None:
        """Type the video's partition until the launchpad offers it.

        The launchpad forgets what was typed when its list of partitions arrives later.
        """
        choice = self.page.get_by_text(self.source).first
        deadline = time.monotonic() + RUN_WAIT_MS / 1000
        while not choice.is_visible():
            assert time.monotonic() < deadline, self.page.inner_text("body")
            self.page.get_by_placeholder("Partition").fill("")
            self.page.get_by_placeholder("Partition").press_sequentially(self.source)
            self.page.wait_for_timeout(1000)
        choice.click()

    def picture(self, name: str) -> None:
        """Keep what is seen now as a picture of the handbook, when pictures are asked for."""
        folder = os.environ.get("HANDBOOK_PICTURES")
        if folder:
            self.page.wait_for_timeout(1500)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_backfill_of_three_days_is_launched_from_an_assets_page(ui: Ui) -> None:
    ui.open("/assets/stripe_raw")
    ui.page.get_by_role("button", name="Materialize").first.click()
    first = utc_now().date() - timedelta(days=30)
    chosen = f"[{first}...{first + timedelta(days=2)}]"
    ui.page.get_by_placeholder("No matching partitions").fill(chosen)
    ui.page.keyboard.press("Enter")
    ui.shows("3 partitions")
    ui.shows("Backfills all partitions in a single run")
    ui.picture("backfill")
    ui.page.get_by_role("button", name="Launch backfill").click()
    ui.open("/runs?view=backfills")
    ui.shows("Manually launched")


def test_the_lineage_shows_every_room_and_how_they_hang_together(ui: Ui) -> None:
    ui.open("/")
    ui.page.get_by_role("link").filter(has_text=re.compile("^Lineage$")).click()
    for group in ("discovery", "media", "renders", "publishing", "revenue"):
        ui.shows(group)
    ui.picture("lineage")


def test_a_rendition_is_seen_on_its_page_and_plays_from_its_link(ui: Ui) -> None:
    ui.open_partition("rendition_9x16")
    ui.picture("rendition")
    watch = ui.page.locator("a", has_text="/9x16/").first.get_attribute("href")
    answer = ui.page.request.get(str(watch), headers={"Range": "bytes=0-99"})
    assert (answer.status, len(answer.body())) == (206, 100)
    ui.page.get_by_text("[Show Markdown]").first.click()
    poster = ui.page.get_by_role("dialog").locator("img").first
    poster.wait_for()
    assert poster.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    ui.picture("poster")


def test_an_upload_that_is_no_video_fails_its_check_with_a_sentence_that_helps(ui: Ui) -> None:
    ui.open("/assets/source_media?view=checks")
    ui.shows("noise.mp4 is not a video file. Upload MP4, MOV, MKV or WebM, whatever the file is called.")
    ui.picture("failed-check")


def test_a_channel_is_connected_on_the_gateways_pages(ui: Ui) -> None:
    page = ui.page
    page.goto(f"{ui.dev.gateway}/accounts")
    page.get_by_label("Account").fill(ACCOUNT)
    page.get_by_label("YouTube").check()
    ui.picture("connect")
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("textbox", name="Account").fill(ACCOUNT)
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{ui.dev.gateway}/**")
    ui.shows("post videos and thumbnails")
    ui.picture("channel")
    ui.dev.run("connect", "--account", ACCOUNT, "--platform", "tiktok")


def test_a_post_is_approved_in_the_launchpad_and_then_made_once(ui: Ui) -> None:
    ui.launch("decide_publication")
    ui.open_partition("publication_approvals")
    ui.shows("only shown; nothing was decided")
    ui.shows(TITLE)
    ui.picture("proposal")
    ui.launch("decide_publication", change=("show", "approve"))
    ui.picture("approval-run")

    ui.launch("publish_video")
    ui.open_partition("youtube_publications")
    ui.shows("PUBLISHED")
    ui.picture("post")
    address = ui.page.locator("a", has_text="/youtube/watch").first.get_attribute("href")
    assert ui.page.request.get(str(address)).status == 200
    ui.launch("publish_video")
    assert posts_on_youtube(ui) == 1


def posts_on_youtube(ui: Ui) -> int:
    asked = ui.page.request.get(f"{ui.dev.sandbox}/_control/requests?vendor=youtube")
    opened = [
        r for r in asked.json() if r["method"] == "POST" and r["path"].endswith("/upload/youtube/v3/videos")
    ]
    return len(opened)


def test_the_posts_page_of_the_gateway_shows_what_was_posted(ui: Ui) -> None:
    ui.page.goto(f"{ui.dev.gateway}/publications")
    ui.page.get_by_text(re.compile(TITLE)).first.wait_for()
    ui.picture("posts")


def test_a_plan_is_bought_on_the_gateways_pages(ui: Ui) -> None:
    page = ui.page
    page.goto(ui.dev.gateway)
    page.get_by_role("link", name="Plans").click()
    page.get_by_label("Account").fill(ACCOUNT)
    page.get_by_role("button", name="Open").click()
    ui.picture("plan")
    page.get_by_role("button", name="Buy Creator").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    page.wait_for_url(f"{ui.dev.gateway}/**")
    assert page.locator("#tier").inner_text() == "Creator"


def test_every_page_of_the_gateway_is_there(ui: Ui) -> None:
    ui.page.goto(ui.dev.gateway)
    for name, heading in (
        ("Channels", "Channels"),
        ("Posts", "Posts"),
        ("Links", "Links"),
        ("Plans", "Plans"),
    ):
        ui.page.get_by_role("navigation").get_by_role("link", name=name).click()
        ui.page.get_by_role("heading", level=1, name=heading).wait_for()
    ui.page.get_by_role("link", name="ettametta").click()
    ui.page.get_by_role("link", name="Dagster UI").click()
    ui.shows("Timeline")


def test_an_alert_is_told_in_the_sensors_tick(ui: Ui) -> None:
    ui.open("/automation")
    ui.page.get_by_text("alerts", exact=True).first.click()
    told = ui.page.get_by_role("dialog").get_by_text("noise.mp4 is not a video file")
    deadline = time.monotonic() + RUN_WAIT_MS / 1000
    while not told.is_visible():
        assert time.monotonic() < deadline, ui.page.inner_text("body")
        ui.page.reload()
        ui.page.get_by_role("button", name="View logs").first.click()
        ui.page.wait_for_timeout(3000)
    ui.picture("alert")


def test_the_morning_page_names_what_failed_and_what_to_do(ui: Ui) -> None:
    ui.open("/assets/operations_overview?view=events")
    ui.page.get_by_role("button", name="Materialize").first.click()
    ui.shows("Launched run")
    told = "1 cause, 1 time in all; first: source_media, accepted: noise.mp4 is not a video file."
    deadline = time.monotonic() + RUN_WAIT_MS / 1000
    while not ui.page.get_by_text(told).first.is_visible():
        assert time.monotonic() < deadline, ui.page.inner_text("body")
        ui.page.reload()
        ui.page.wait_for_timeout(3000)
    ui.picture("morning")
    ui.page.get_by_text("[Show Markdown]").first.click()
    ui.page.get_by_role("dialog").get_by_text("Failures").first.wait_for()
    ui.picture("morning-page")


def test_runs_are_filtered_by_the_platform_they_post_to(ui: Ui) -> None:
    ui.open("/runs?q[0]=tag%3Aettametta%2Fyoutube%3Dyes")
    ui.shows("publish_video")
    assert ui.page.get_by_text("ingest_upload").count() == 0
    ui.picture("runs")


def test_the_backfill_was_one_run_and_ended_well(ui: Ui) -> None:
    ui.open("/runs?view=backfills")
    ui.shows("stripe_raw")
    ui.page.get_by_text("Success", exact=True).first.wait_for(timeout=RUN_WAIT_MS)
    ui.picture("backfills")


def test_the_jobs_come_back_when_the_process_that_holds_the_definitions_was_killed(ui: Ui) -> None:
    (holder,) = [
        pid for pid in ui.dev.processes() if b"\0api\0grpc\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(holder, signal.SIGKILL)
    ui.dev.wait_for("the definitions again", lambda: "it is started again" in ui.dev.log.read_text())
    ui.open("/jobs")
    ui.shows("ingest_upload")


def test_nothing_is_left_running_after_ctrl_c(dev: Dev) -> None:
    assert dev.stop() == 0, dev.log.read_text()
    assert dev.processes() == []
