"""The command line: exit codes scripts rely on, and one clear sentence per failure."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ettametta_pipelines.cli import app
from ettametta_pipelines.settings import VENDORS, Settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines_tests.conftest import SandboxUnderTest

runner = CliRunner()


def ettametta(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    import os

    return subprocess.run(
        [sys.executable, "-m", "ettametta_pipelines.cli", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "ETTAMETTA_HOME": str(cwd / "home"), **environment},
    )  # fmt: skip


def test_doctor_on_a_fresh_machine_shows_the_sandbox_everywhere(settings_env: Settings) -> None:
    answer = runner.invoke(app, ["doctor", "--json"])
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert [row["integration"] for row in document["integrations"]] == list(VENDORS)
    assert {row["standing"] for row in document["integrations"]} == {"sandbox"}
    assert all(part["ok"] for part in document["parts"])


def test_doctor_on_a_fresh_machine_fits_a_screen_and_says_what_to_do_next(settings_env: Settings) -> None:
    answer = runner.invoke(app, ["doctor"])
    assert len(answer.stdout.splitlines()) <= 40
    for said in (
        "YOUTUBE_API_KEY",
        f"{settings_env.gateway_url}/accounts",
        "ettametta upload",
        "doctor google",
    ):
        assert said in answer.stdout


def test_doctor_prints_the_addresses_to_register_as_they_stand(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import get_settings

    monkeypatch.setenv("PRODUCTION_DOMAIN", "studio.example.com")
    get_settings.cache_clear()
    found = json.loads(runner.invoke(app, ["doctor", "all", "--json"]).stdout)
    assert set(VENDORS) <= set(found)
    said = {name: " ".join(steps) for name, steps in found.items()}
    assert "https://studio.example.com/oauth/youtube" in said["google"]
    assert "youtube.upload, youtube.readonly, yt-analytics-monetary.readonly" in said["google"]
    assert "https://studio.example.com/oauth/tiktok" in said["tiktok"]
    assert "https://studio.example.com/webhooks/tiktok" in said["tiktok"]
    assert "https://studio.example.com/webhooks/stripe" in said["stripe"]
    for name, spec in VENDORS.items():
        assert all(field.upper() in said[name] for field in spec.key_fields), name


def test_doctor_names_the_integrations_it_knows_when_asked_for_another() -> None:
    answer = runner.invoke(app, ["doctor", "myspace"])
    assert answer.exit_code == 2
    assert "siliconflow" in answer.output


def test_every_event_stripe_is_asked_for_has_an_effect() -> None:
    from ettametta_pipelines.commands.going_live import STRIPE_EVENTS
    from ettametta_pipelines.webhook_effects import effect_of

    assert [kind for kind in STRIPE_EVENTS if effect_of("stripe", kind) is None] == []


def test_samples_are_videos_intake_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = runner.invoke(app, ["samples"]).stdout.split()
    assert [Path(name).parent for name in drawn] == [tmp_path / "samples"] * 3
    assert runner.invoke(app, ["probe", drawn[0]]).exit_code == 0


def test_doctor_fails_when_something_configured_does_not_answer(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import get_settings

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("GEMINI_API_KEY", "canary-key-value")
        monkeypatch.setenv("GEMINI_BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        get_settings.cache_clear()
        answer = runner.invoke(app, ["doctor", "--json"])
    assert answer.exit_code == 1
    rows = {row["integration"]: row for row in json.loads(answer.stdout)["integrations"]}
    assert rows["gemini"]["standing"] == "broken"
    assert rows["gemini"]["remedy"]
    assert "canary-key-value" not in answer.output


def test_doctor_names_the_field_of_a_channel_file_that_cannot_be_used(
    settings_env: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import get_settings

    rules = tmp_path / "channels.yaml"
    rules.write_text("channels:\n  acme:\n    youtube: {approval: perhaps}\n")
    monkeypatch.setenv("ETTAMETTA_CHANNELS", str(rules))
    get_settings.cache_clear()
    answer = runner.invoke(app, ["doctor", "--json"])
    assert answer.exit_code == 1
    parts = {part["part"]: part for part in json.loads(answer.stdout)["parts"]}
    assert not parts["channel rules"]["ok"]
    assert "approval" in parts["channel rules"]["detail"]
    assert parts["tiers"]["ok"]


@pytest.mark.parametrize(("domain", "ok"), [("studio.example.com", False), ("", True)])
def test_doctor_says_whose_messages_are_refused_for_want_of_a_secret(
    settings_env: Settings, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch, domain: str, ok: bool
) -> None:
    from ettametta_pipelines.settings import get_settings

    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_x")
    monkeypatch.setenv("STRIPE_BASE_URL", f"{sandbox.url}/stripe/")
    monkeypatch.setenv("PRODUCTION_DOMAIN", domain)
    get_settings.cache_clear()
    answer = runner.invoke(app, ["doctor", "--json"])
    parts = {part["part"]: part for part in json.loads(answer.stdout)["parts"]}
    assert parts["webhooks"]["ok"] is ok
    assert "STRIPE_WEBHOOK_SECRET of stripe not set" in parts["webhooks"]["detail"]


@pytest.mark.parametrize(
    ("domain", "header", "accounts", "ok", "said"),
    [
        ("", "", "", True, "this machine alone; whoever is let in may do everything"),
        ("studio.example.com", "", "", True, "refuse everybody until"),
        ("studio.example.com", "X-Auth-Request-User", "", False, "ETTAMETTA_OPERATOR_ACCOUNTS is not set"),
        ("studio.example.com", "X-Auth-Request-User", "ann@example.com=acme", True, "1 operators named"),
    ],
)
def test_doctor_objects_to_operators_who_may_do_everything_on_a_public_domain(
    settings_env: Settings,
    monkeypatch: pytest.MonkeyPatch,
    domain: str,
    header: str,
    accounts: str,
    ok: bool,
    said: str,
) -> None:
    from ettametta_pipelines.commands.doctor import PARTS as CHECKS
    from ettametta_pipelines.commands.doctor import _examine_part
    from ettametta_pipelines.settings import get_settings

    monkeypatch.setenv("PRODUCTION_DOMAIN", domain)
    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", header)
    monkeypatch.setenv("ETTAMETTA_OPERATOR_ACCOUNTS", accounts)
    get_settings.cache_clear()
    row = _examine_part("operators", CHECKS["operators"], get_settings())
    assert (row.ok, said in row.detail) == (ok, True), row.detail


def test_doctor_asks_each_model_that_has_a_key_a_free_question(
    settings_env: Settings, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import get_settings

    for name, path in {"OPENAI": "openai/v1/", "GROQ": "groq/openai/v1/"}.items():
        monkeypatch.setenv(f"{name}_API_KEY", "a-key-of-the-test")
        monkeypatch.setenv(f"{name}_BASE_URL", f"{sandbox.url}/{path}")
    monkeypatch.setenv("GROQ_MODEL", "openai/gpt-oss-120b")
    get_settings.cache_clear()
    answer = runner.invoke(app, ["doctor", "--json"])
    rows = {row["integration"]: row for row in json.loads(answer.stdout)["integrations"]}
    assert rows["openai"]["standing"] == "live"
    assert "answers for gpt-6-luna" in rows["openai"]["why"]
    assert (rows["groq"]["standing"], "GROQ_MODEL" in rows["groq"]["remedy"]) == ("broken", True)
    assert sandbox.count("openai", "POST", "/chat/completions") == 0


def test_upload_puts_the_file_and_its_sidecar_where_the_sensor_looks(
    settings_env: Settings, tmp_path: Path
) -> None:
    clip = tmp_path / "beach day.mp4"
    clip.write_bytes(b"bytes")
    answer = runner.invoke(
        app, ["upload", str(clip), "--account", "studio", "--niche", "travel", "--rights", "owned"]
    )
    assert answer.exit_code == 0, answer.output
    keys = [info.key for info in open_store(settings_env).list("uploads/")]
    assert [key.rsplit("/", 1)[-1] for key in keys] == ["beach day.mp4", "beach day.mp4.json"]
    assert keys[0].startswith("uploads/studio/travel/")


def test_an_unknown_niche_is_refused_naming_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"bytes")
    done = ettametta("upload", "clip.mp4", "--account", "studio", "--niche", "chess", cwd=tmp_path)
    assert done.returncode == 1
    assert "chess" in done.stderr
    assert "home-cooking" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_dotenv_value_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ETTAMETTA_GATEWAY_PORT=front-door\n")
    done = ettametta("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert "ETTAMETTA_GATEWAY_PORT" in done.stderr
    assert "front-door" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("sandbox", "ETTAMETTA_SANDBOX_PORT"),
        ("gateway", "ETTAMETTA_GATEWAY_PORT"),
        ("dev", "ETTAMETTA_UI_PORT"),
    ],
)
def test_a_taken_port_is_named_with_the_variable_that_changes_it(
    command: str, variable: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ettametta(command, cwd=tmp_path, **{variable: str(port)})
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path: Path) -> None:
    done = ettametta("upload", "x[/red].mp4", "--account", "studio", "--niche", "travel", cwd=tmp_path)
    assert "x[/red].mp4" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "cl[b]ip.mp4").write_text("not a video")
    assert "cl[b]ip.mp4" in ettametta("probe", "cl[b]ip.mp4", cwd=tmp_path).stdout


def test_probe_says_why_a_file_would_be_rejected_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    done = ettametta("probe", "notes.mp4", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["reason_code"] == "not_a_video"


def test_sql_on_an_empty_lake_prints_typed_empty_tables(settings_env: Settings) -> None:
    answer = runner.invoke(app, ["sql", "select * from daily_revenue", "--json"])
    assert (answer.exit_code, json.loads(answer.stdout)) == (0, [])


def test_an_unknown_id_says_how_to_list_what_there_is(tmp_path: Path) -> None:
    done = ettametta("trace", "nothing--0000", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing--0000" in done.stderr
    assert "ettametta sql" in done.stderr


def test_render_burns_captions_in_and_upload_takes_them_along(settings_env: Settings, tmp_path: Path) -> None:
    from ettametta_pipelines_tests.media.clips import clip

    source = clip(tmp_path / "clip.mp4", picture="color=gray:s=320x240:r=25:d=1", sound=None)
    words = tmp_path / "words.json"
    words.write_text('[{"word": "Hello", "start": 0.1, "end": 0.6}]')
    arguments = [
        "render",
        str(source),
        "--formats",
        "1x1",
        "--out",
        str(tmp_path),
        "--captions",
        str(words),
        "--json",
    ]
    answer = runner.invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["captions"] == {"drawn": 1, "after_end": 0, "left_out": ""}
    arguments = ["upload", str(source), "--account", "studio", "--niche", "travel", "--captions", str(words)]
    answer = runner.invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    store = open_store(settings_env)
    names = {info.key.rsplit("/", 1)[-1]: info.key for info in store.list("uploads/")}
    assert sorted(names) == ["clip.mp4", "clip.mp4.json", "clip.mp4.words.json"]
    assert json.loads(store.get(names["clip.mp4.json"])) == {"captions": "clip.mp4.words.json"}


def test_render_cuts_away_to_a_folders_clips_and_names_what_it_could_not_find(
    settings_env: Settings, tmp_path: Path
) -> None:
    from ettametta_pipelines_tests.media.clips import clip

    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=320x240:r=25:d=6", sound=None)
    mine = tmp_path / "mine"
    mine.mkdir()
    clip(mine / "sea.mp4", picture="testsrc=s=320x180:r=25:d=4", sound=None)
    plain = ["render", str(source), "--recipe", "clean", "--formats", "1x1", "--out", str(tmp_path), "--json"]
    answers = {}
    for name, more in {
        "own": ["--broll-dir", str(mine)],
        "unfound": ["--broll", "xkcd"],
    }.items():
        answer = runner.invoke(app, [*plain, *more])
        assert answer.exit_code == 0, answer.output
        answers[name] = json.loads(answer.stdout)
    own, unfound = answers["own"]["broll"], answers["unfound"]["broll"]
    assert (own["said"], own["credits"], own["cutaways"][0]["url"]) == ("1 cutaway", [], "sea.mp4")
    assert unfound["said"].startswith("skipped: No clip that could be used was found in pexels for 'xkcd'")
    assert len({document["outputs"][0]["render_key"] for document in answers.values()}) == 2


def test_upload_states_what_cutaways_shall_show(settings_env: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"bytes")
    arguments = ["upload", str(tmp_path / "a.mp4"), "--account", "studio", "--niche", "travel"]
    answer = runner.invoke(app, [*arguments, "--broll-keywords", "sea, sand"])
    assert answer.exit_code == 0, answer.output
    store = open_store(settings_env)
    (sidecar,) = (info.key for info in store.list("uploads/") if info.key.endswith(".json"))
    assert json.loads(store.get(sidecar)) == {"broll_keywords": "sea, sand"}


def test_keys_are_shown_rotated_and_dropped(settings_env: Settings) -> None:
    assert runner.invoke(app, ["connect", "--account", "acme", "--platform", "tiktok"]).exit_code == 0
    before = json.loads(runner.invoke(app, ["keys", "show", "--json"]).stdout)
    assert list(before.values()) == [2]
    rotated = runner.invoke(app, ["keys", "rotate", "--new"])
    assert rotated.exit_code == 0
    assert "2 secrets moved" in rotated.stdout
    after = json.loads(runner.invoke(app, ["keys", "show", "--json"]).stdout)
    assert list(after.values()) == [2, 0]
    assert "1 old keys removed" in runner.invoke(app, ["keys", "drop"]).stdout
