"""Who speaks a text, where it stands, and that no text is paid for twice."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from ettametta_pipelines.billing.spend_caps import open_wallet
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import NeedsPersonError, OutcomeUnknownError, PermanentError, TransientError
from ettametta_pipelines.renders import local_voice, voiceover
from ettametta_pipelines.renders.recipe import Captions, Recipe, SpeedRamp, VoiceOver
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines.renders.voiceover import (
    VoiceStudio,
    VoiceWish,
    check_text,
    narrate,
    narrated,
    open_studio,
    read_text,
    speech_key,
)
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.state.budget import SpendCapReached
from ettametta_pipelines.state.models import ModelClaim
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines_tests.conftest import SandboxUnderTest

TEXT = "Bread, slowly. Then water, flour and salt!"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def local(store: ObjectStore, tmp_path: Path) -> VoiceStudio:
    return VoiceStudio(store, tmp_path / "scratch")


@pytest.fixture
def paid(sandbox: SandboxUnderTest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch) -> VoiceStudio:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "sandbox-key-of-a-test")
    monkeypatch.setenv("ELEVENLABS_BASE_URL", f"{sandbox.url}/elevenlabs/")
    settings = load_settings()
    return open_studio(settings, open_store(settings))


def asked(sandbox: SandboxUnderTest) -> int:
    return sandbox.count("elevenlabs", "POST", "/with-timestamps")


def test_without_a_key_the_local_voice_speaks_and_says_so(settings_env: Settings) -> None:
    studio = open_studio(settings_env, open_store(settings_env))
    told = narrate(studio, VoiceWish(TEXT), VoiceOver(), 20).document()
    assert (told["engine"], told["voice"], told["language"]) == ("espeak-ng", "en-us", "en")
    assert (told["cost_microusd"], told["synthetic"]) == (0, True)
    assert told["fallback"] == "no ElevenLabs key: local voice"
    assert studio.store.head(told["object_key"]).size > 10_000


def test_with_a_key_elevenlabs_speaks_and_the_price_is_kept(
    paid: VoiceStudio, sandbox: SandboxUnderTest
) -> None:
    first = narrate(paid, VoiceWish(TEXT), VoiceOver(), 20)
    again = narrate(paid, VoiceWish(TEXT), VoiceOver(start_s=3, duck_db=20), 30)
    assert (first.made, again.made) == (True, False)
    assert asked(sandbox) == 1
    assert first.speech == again.speech
    assert (first.speech.engine, first.speech.characters) == ("elevenlabs", len(TEXT))
    assert first.speech.cost_microusd == 80 * len(TEXT)
    assert first.fallback is None
    assert [w.text for w in first.speech.words] == TEXT.split()
    assert [o.key for o in paid.store.list("media/voices/") if "claim" in o.key] == []


def test_a_voice_is_not_bought_beyond_the_accounts_cap_and_its_cost_is_the_videos(
    paid: VoiceStudio, sandbox: SandboxUnderTest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_state(settings_env)
    monkeypatch.setenv("ETTAMETTA_ACCOUNT_SPEND_CAPS_USD", f"acme={80 * len(TEXT) / 1e6:.6f}")
    wallet = open_wallet(load_settings(), db, "acme", "live")
    studio = replace(paid, wallet=wallet, source_id="acme--1", niche="baking")
    narrate(studio, VoiceWish(TEXT), VoiceOver(), 20)
    with pytest.raises(SpendCapReached, match="Account acme may spend"):
        narrate(studio, VoiceWish("More bread."), VoiceOver(), 20)
    assert asked(sandbox) == 1
    assert not [o.key for o in paid.store.list("media/voices/") if "claim" in o.key]
    with db.session(write=False) as session:
        (claim,) = session.scalars(sa.select(ModelClaim))
    assert (claim.purpose, claim.source_id, claim.niche, claim.cost_microusd) == (
        "voice_over", "acme--1", "baking", 80 * len(TEXT),
    )  # fmt: skip


def test_another_voice_model_language_or_text_is_another_speech() -> None:
    given = ("a", "elevenlabs", "v", "m", "en")
    others = [(*given[:place], "other", *given[place + 1 :]) for place in range(len(given))]
    keys = {speech_key(*each) for each in [given, *others]}
    assert len(keys) == 6


@pytest.mark.parametrize("loss", [{"action": "drop_after"}, {"action": "status", "status": 500}])
def test_a_lost_answer_is_bought_again_only_when_a_person_says_so(
    paid: VoiceStudio, sandbox: SandboxUnderTest, loss: dict[str, object]
) -> None:
    sandbox.fault("elevenlabs", **loss)
    with pytest.raises(OutcomeUnknownError):
        narrate(paid, VoiceWish(TEXT), VoiceOver(), 20)
    for _ in range(2):
        with pytest.raises(NeedsPersonError) as parked:
            narrate(paid, VoiceWish(TEXT), VoiceOver(), 20)
        assert parked.value.code == "voice_outcome_unknown"
    assert asked(sandbox) == 1
    assert narrate(paid, VoiceWish(TEXT, again=True), VoiceOver(), 20).made
    assert not narrate(paid, VoiceWish(TEXT, again=True), VoiceOver(), 20).made
    assert asked(sandbox) == 2


def test_a_refusal_leaves_nothing_behind_and_may_be_tried_again(
    paid: VoiceStudio, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault(
        "elevenlabs",
        action="status",
        status=401,
        body={"detail": {"status": "quota_exceeded", "message": "0"}},
    )
    with pytest.raises(NeedsPersonError):
        narrate(paid, VoiceWish(TEXT), VoiceOver(), 20)
    assert list(paid.store.list("media/voices/")) == []
    assert narrate(paid, VoiceWish(TEXT), VoiceOver(), 20).made


def test_sound_that_cannot_be_decoded_is_not_bought_again_by_itself(
    paid: VoiceStudio, sandbox: SandboxUnderTest
) -> None:
    body = {"audio_base64": "bm8gbXAzIGF0IGFsbA==", "alignment": None}
    sandbox.fault("elevenlabs", action="status", status=200, body=body, headers={"character-cost": "9"})
    for _ in range(2):
        with pytest.raises(PermanentError) as unreadable:
            narrate(paid, VoiceWish(TEXT), VoiceOver(), 20)
        assert unreadable.value.code == "voice_unreadable"
    assert asked(sandbox) == 1
    assert narrate(paid, VoiceWish(TEXT, again=True), VoiceOver(), 20).made
    assert asked(sandbox) == 2


def test_an_answer_that_came_is_used_though_the_process_ended_before_it_was_kept(
    paid: VoiceStudio, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(voiceover, "master", killed)
        with pytest.raises(KeyboardInterrupt):
            narrate(paid, VoiceWish(TEXT), VoiceOver(), 20)
    speech = narrate(paid, VoiceWish(TEXT), VoiceOver(), 20).speech
    assert asked(sandbox) == 1
    assert (speech.cost_microusd, [w.text for w in speech.words]) == (80 * len(TEXT), TEXT.split())
    kept = {info.key.rsplit("/", 1)[-1] for info in paid.store.list("media/voices/")}
    assert kept == {f"{speech.key}.flac", f"{speech.key}.json"}


def test_a_text_that_another_run_is_having_made_waits_and_an_abandoned_one_is_parked(
    paid: VoiceStudio, sandbox: SandboxUnderTest
) -> None:
    key = speech_key(TEXT, "elevenlabs", paid.default_voice, paid.model, "en")
    paid.store.create(f"media/voices/{key}.claim.json", json.dumps({"state": "asked"}).encode())
    with pytest.raises(TransientError) as busy:
        narrate(paid, VoiceWish(TEXT, again=True), VoiceOver(), 20)
    assert busy.value.code == "voice_being_made"
    later = replace(paid, clock=lambda: utc_now() + timedelta(hours=1))
    with pytest.raises(NeedsPersonError):
        narrate(later, VoiceWish(TEXT), VoiceOver(), 20)
    assert asked(sandbox) == 0


def test_a_text_that_cannot_fit_is_refused_before_anything_is_spent(
    paid: VoiceStudio, sandbox: SandboxUnderTest
) -> None:
    with pytest.raises(PermanentError, match=r"to about \d+ words") as refused:
        narrate(paid, VoiceWish("slowly baked bread " * 40), VoiceOver(), 20)
    assert refused.value.code == "voice_over_too_long"
    assert asked(sandbox) == 0


def test_a_text_a_little_too_long_is_spoken_faster_and_a_longer_one_refused(local: VoiceStudio) -> None:
    text = "We bake bread today, and we do not hurry at all."
    whole = narrate(local, VoiceWish(text), VoiceOver(), 30)
    assert whole.tempo == 1
    room = whole.speech.seconds + 0.5 + 0.3
    tight = narrate(local, VoiceWish(text), VoiceOver(), room - 0.1 * whole.speech.seconds)
    assert tight.tempo == pytest.approx(1 / 0.9)
    assert tight.spoken[-1][1] <= room - 0.1 * whole.speech.seconds - 0.25
    with pytest.raises(PermanentError, match=r"about (9|10) words") as refused:
        narrate(local, VoiceWish(text), VoiceOver(), room - 0.2 * whole.speech.seconds)
    assert refused.value.code == "voice_over_too_long"


def test_a_voice_stands_where_the_recipe_puts_it(local: VoiceStudio) -> None:
    def placed(**stated: object) -> float:
        return narrate(local, VoiceWish(TEXT), VoiceOver.model_validate(stated), 30).start_s

    seconds = narrate(local, VoiceWish(TEXT), VoiceOver(), 30).seconds
    assert placed(start_s=2) == 2
    assert placed(position="end", start_s=0) == pytest.approx(30 - 0.3 - seconds, abs=0.002)
    assert placed(position="middle", start_s=0) == pytest.approx((30 - 0.3 - seconds) / 2, abs=0.002)


def test_the_local_voice_gives_the_same_bytes_and_words_in_order(local: VoiceStudio, tmp_path: Path) -> None:
    other = VoiceStudio(ObjectStore.from_url((tmp_path / "other").as_uri()), tmp_path / "scratch")
    one, two = (narrate(s, VoiceWish(TEXT), VoiceOver(), 20).speech for s in (local, other))
    assert one == two
    assert [w.text for w in one.words] == TEXT.split()
    starts = [w.start_s for w in one.words]
    assert starts == sorted(starts)
    assert one.words[-1].end_s == pytest.approx(one.seconds, abs=0.15)
    # Every word begins while the voice sounds, not in a rest.
    assert all(any(a - 0.06 <= w.start_s < b for a, b in one.spoken) for w in one.words)


@pytest.mark.parametrize(
    ("language", "voice"), [("de", "de"), ("pt-BR", "pt-br"), ("zh-Hans", "cmn"), ("en-GB", "en-gb-x-rp")]
)
def test_the_local_voice_speaks_the_language_that_is_stated(language: str, voice: str) -> None:
    assert local_voice.describe_voice().voice_for(language) == voice


def test_a_language_nobody_speaks_is_named(local: VoiceStudio) -> None:
    with pytest.raises(PermanentError) as refused:
        narrate(local, VoiceWish(TEXT, "xx"), VoiceOver(), 20)
    assert refused.value.code == "voice_language_unknown"


def test_markup_is_read_out_and_never_obeyed(local: VoiceStudio) -> None:
    shell = "<break time='9s'/> [[']] $(touch /tmp/x); `id` & bread"
    spoken = narrate(local, VoiceWish(shell), VoiceOver(), 60)
    assert spoken.speech.words[-1].text == "bread"
    assert spoken.speech.seconds < 20
    rests = np.diff([edge for interval in spoken.speech.spoken for edge in interval])[1::2]
    assert max(rests, default=0) < 2


def test_a_crash_of_the_c_library_is_a_failure_and_not_the_end(
    local: VoiceStudio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    local_voice.describe_voice()
    child = tmp_path / "child.py"
    child.write_text("import ctypes; ctypes.string_at(0)")
    monkeypatch.setattr(local_voice, "CHILD", child)
    with pytest.raises(PermanentError) as crashed:
        narrate(local, VoiceWish(TEXT), VoiceOver(), 20)
    assert crashed.value.code == "local_voice_missing"
    assert list(local.store.list("media/voices/")) == []


@pytest.mark.parametrize("text", ["", " \n ", "—!…", "\u200b"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(PermanentError) as refused:
        check_text(text)
    assert refused.value.code == "voice_over_empty"


def test_a_text_longer_than_is_ever_spoken_is_refused() -> None:
    with pytest.raises(PermanentError) as refused:
        check_text("a " * 2_501)
    assert refused.value.code == "voice_over_too_long"


def test_a_text_is_given_as_it_is_or_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Brot, langsam.\nÄh!", encoding="utf-8")
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff")
    assert read_text("Bread.") == "Bread."
    assert check_text(read_text(f"@{tmp_path / 'text.txt'}")) == "Brot, langsam. Äh!"
    with pytest.raises(PermanentError) as refused:
        read_text(f"@{tmp_path / 'picture.txt'}")
    assert refused.value.code == "voice_over_unreadable"


def test_the_voices_words_are_captions_where_there_are_none_and_follow_the_voice_not_the_ramp(
    local: VoiceStudio,
) -> None:
    recipe = Recipe(name="r", captions=Captions(), voice_over=VoiceOver(), speed_ramp=SpeedRamp())
    narration, cues = narrated(local, VoiceWish(TEXT), recipe, 3, 20, ())
    assert narration is not None
    assert " ".join(cue.text for cue in cues) == TEXT
    times = time_map(recipe, 3)
    for word, kept in zip((word for cue in cues for word in cue.words), narration.speech.words, strict=True):
        assert times.output_time(word.start_s) == pytest.approx(narration.start_s + kept.start_s, abs=0.001)
    assert narrated(local, VoiceWish(TEXT), recipe.model_copy(update={"captions": None}), 3, 20, ())[1] == ()
    assert narrated(local, VoiceWish(TEXT), recipe, 3, 20, cues[:1])[1] == cues[:1]


def test_words_that_cannot_be_drawn_stop_it_before_anything_is_spent(
    paid: VoiceStudio, sandbox: SandboxUnderTest
) -> None:
    recipe = Recipe(name="r", captions=Captions(), voice_over=VoiceOver())
    with pytest.raises(PermanentError) as refused:
        narrated(paid, VoiceWish("慢慢烤面包", "zh"), recipe, 3, 20, ())
    assert refused.value.code == "caption_glyphs_missing"
    assert asked(sandbox) == 0


def test_elevenlabs_words_begin_when_they_are_heard(paid: VoiceStudio) -> None:
    speech = narrate(paid, VoiceWish("Aaa. Ooo. Eee."), VoiceOver(), 20).speech
    assert [word.text for word in speech.words] == ["Aaa.", "Ooo.", "Eee."]
    for word, (start, end) in zip(speech.words, speech.spoken, strict=True):
        assert word.start_s == pytest.approx(start, abs=0.04)
        assert start < word.end_s < end + 0.6
