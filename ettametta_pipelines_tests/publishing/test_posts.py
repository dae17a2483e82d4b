"""Words, limits and declarations of a post."""

import json
from typing import Any

import pytest

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.publishing.disclosure import Disclosure, disclosure_of
from ettametta_pipelines.publishing.orders import Wishes, order_for
from ettametta_pipelines.publishing.posts import compose_post, tags_length, tiktok_caption
from ettametta_pipelines.publishing.rights import rights_of
from ettametta_pipelines.publishing.youtube_upload import video_metadata

KEY = "uploads/acme/cooking/2026/11/22/a.mp4"
PLAIN = Disclosure(synthetic=False)


def disclosed(
    rights: str = "owned", attribution: str | None = None, rendition: dict[str, Any] | None = None, *,
    live: bool = False, **stated: Any,
) -> Disclosure:  # fmt: skip
    """What follows for a rendition of an upload with these rights and whatever else its sidecar states."""
    source = {
        "source_id": "a--1",
        "account": "a",
        "upload_key": KEY,
        "rights": rights,
        "attribution": attribution,
    }
    return disclosure_of(rights_of(rendition or {}, source | stated), live=live)


def test_generated_footage_is_declared_synthetic_and_other_footage_is_not() -> None:
    assert disclosed("generated").synthetic
    assert not disclosed("owned").synthetic


@pytest.mark.parametrize(
    ("voice", "synthetic"),
    [
        (None, False),
        ('{"engine": "espeak-ng", "synthetic": true}', True),
        ('{"engine": "unheard of"}', True),
        ('{"engine": "a person", "synthetic": false, "rights": "owned"}', False),
    ],
)
def test_a_synthetic_voice_is_declared_on_footage_of_ones_own(voice: str | None, synthetic: bool) -> None:
    source = {"source_id": "a--1", "account": "a", "upload_key": KEY, "title": "t", "rights": "owned"}
    rendition = {"object_key": "media/r.mp4", "sha256": "ab", "size_bytes": 10, "duration_s": 9.5}
    order = order_for("youtube", source | {"attribution": None}, rendition | {"voice_json": voice}, Wishes())
    assert order.post.synthetic is synthetic


@pytest.mark.parametrize("rights", ["undeclared", "", "stolen"])
def test_footage_without_a_right_is_not_published_and_the_remedy_names_the_sidecar(rights: str) -> None:
    with pytest.raises(NeedsPersonError) as failure:
        disclosed(rights)
    assert failure.value.code == "rights_undeclared"
    assert f"{KEY}.json" in failure.value.remedy
    assert '{"rights": "owned"}' in failure.value.remedy
    assert "source_media" in failure.value.remedy


def test_cc_by_footage_carries_its_credit_into_the_description() -> None:
    disclosure = disclosed("cc_by", "Big Buck Bunny, CC BY 3.0")
    post = compose_post("youtube", disclosure, title="t", description="Watch this")
    assert post.described("ref-1") == "Watch this\n\nBig Buck Bunny, CC BY 3.0\n\nref-1"
    post = compose_post("tiktok", disclosure, title="t")
    assert tiktok_caption(post) == "t\n\nBig Buck Bunny, CC BY 3.0"


@pytest.mark.parametrize("attribution", [None, "", "  "])
def test_cc_by_footage_without_a_credit_is_held(attribution: str | None) -> None:
    with pytest.raises(NeedsPersonError) as failure:
        disclosed("cc_by", attribution)
    assert failure.value.code == "attribution_missing"


@pytest.mark.parametrize(
    ("platform", "words", "code"),
    [
        ("youtube", {"title": ""}, "bad_title"),
        ("youtube", {"title": "x" * 101}, "bad_title"),
        ("youtube", {"title": "a < b"}, "bad_title"),
        ("youtube", {"description": "ä" * 2500}, "bad_description"),
        ("youtube", {"description": "a > b"}, "bad_description"),
        ("youtube", {"tags": ["x" * 99] * 6}, "bad_tags"),
        ("youtube", {"privacy": "SELF_ONLY"}, "bad_privacy"),
        ("tiktok", {"title": "😀" * 1101}, "bad_title"),
        ("tiktok", {"privacy": "private"}, "bad_privacy"),
        ("tiktok", {"privacy": "SELF_ONLY", "paid": True}, "paid_promotion_private"),
    ],
)
def test_what_a_platform_would_refuse_is_refused_before_it_is_asked(
    platform: str, words: dict[str, Any], code: str
) -> None:
    with pytest.raises(PermanentError) as failure:
        compose_post(platform, PLAIN, **({"title": "t"} | words))
    assert failure.value.code == code


def test_words_exactly_at_the_limits_pass() -> None:
    compose_post("youtube", PLAIN, title="x" * 100, description="y" * 4960, tags=["z" * 500])
    compose_post("tiktok", PLAIN, title="😀" * 1100)


def test_tags_count_commas_and_the_quotes_around_spaces() -> None:
    assert tags_length(["knife skills", "pan"]) == len('"knife skills",pan')


def test_nobody_but_the_owner_sees_a_post_unless_it_is_asked_for() -> None:
    post = compose_post("youtube", PLAIN, title="t")
    assert video_metadata(post, "ref-1").privacy == "private"
    assert compose_post("tiktok", PLAIN, title="t").privacy == "SELF_ONLY"


def test_an_order_takes_title_rights_and_file_from_the_tables() -> None:
    source = {
        "source_id": "acme--1", "account": "acme", "upload_key": KEY, "title": "Knife skills", "rights": "generated",
        "attribution": None,
    }  # fmt: skip
    rendition = {"object_key": "media/r.mp4", "sha256": "ab", "size_bytes": 10, "duration_s": 9.5}
    order = order_for("youtube", source, rendition, Wishes(privacy="unlisted"), request_id="run-1")
    assert (order.account, order.request_id, order.rendition.size_bytes) == ("acme", "run-1", 10)
    assert (order.post.title, order.post.privacy, order.post.synthetic) == ("Knife skills", "unlisted", True)
    assert order_for("youtube", source, rendition, Wishes(title="Other")).post.title == "Other"


def shown(*clips: dict[str, Any]) -> dict[str, Any]:
    """A rendition's row that cuts away to these clips."""
    plain = {"vendor": "pexels", "vendor_id": "7", "rights": "licensed", "credit": None, "standing": "live"}
    return {"broll_json": json.dumps({"cutaways": [plain | clip for clip in clips], "skipped": []})}


def test_whoever_made_a_clip_is_credited_once_below_the_post() -> None:
    source = {
        "source_id": "acme--1", "account": "acme", "upload_key": KEY, "title": "Knife skills", "rights": "cc_by",
        "attribution": "Knives by A, CC BY 4.0",
    }  # fmt: skip
    rendition = {"object_key": "media/r.mp4", "sha256": "ab", "size_bytes": 10, "duration_s": 9.5}
    ada, bo = {"credit": "Footage: Ada / Pexels"}, {"credit": "Footage: Bo / Pexels"}
    order = order_for("youtube", source, rendition | shown(ada, bo, ada, {}), Wishes(description="Look"))
    assert order.post.description == (
        "Look\n\nKnives by A, CC BY 4.0\nFootage: Ada / Pexels\nFootage: Bo / Pexels"
    )
    assert not order.post.synthetic
    order = order_for(
        "tiktok", source | {"rights": "owned", "attribution": None}, rendition | shown(ada), Wishes()
    )
    assert tiktok_caption(order.post) == "Knife skills\n\nFootage: Ada / Pexels"


def test_one_generated_clip_makes_the_post_synthetic_and_one_without_a_right_holds_it() -> None:
    assert disclosed(rendition=shown({}, {"rights": "generated", "vendor_id": "8"})).synthetic
    assert disclosed(rendition={"broll_json": None}) == disclosed() == PLAIN
    for clip in ({"rights": "undeclared"}, {"rights": "cc_by"}):
        with pytest.raises(NeedsPersonError) as failure:
            disclosed(rendition=shown(clip))
        assert failure.value.code == "footage_right_missing"
        assert "pexels 7" in failure.value.message


def test_what_stands_in_for_stock_footage_is_not_shown_to_people() -> None:
    stand_in = shown({"standing": "sandbox", "credit": "Footage: Nobody / Pexels"})
    assert disclosed(rendition=stand_in).credit == "Footage: Nobody / Pexels"
    with pytest.raises(NeedsPersonError) as failure:
        disclosed(rendition=stand_in, live=True)
    assert failure.value.code == "footage_is_stand_in"


def test_everything_a_post_declares_is_said_also_where_it_is_no() -> None:
    from ettametta_pipelines.vendors.youtube import _video_body

    body = _video_body(video_metadata(compose_post("youtube", PLAIN, title="t"), "ref-1"))
    assert body["status"] == {
        "privacyStatus": "private",
        "license": "youtube",
        "selfDeclaredMadeForKids": False,
        "containsSyntheticMedia": False,
    }
    assert body["paidProductPlacementDetails"] == {"hasPaidProductPlacement": False}


def test_a_licence_is_one_of_youtubes() -> None:
    free = compose_post("youtube", PLAIN, title="t", license="creativeCommon")
    assert video_metadata(free, "ref-1").license == "creativeCommon"
    with pytest.raises(PermanentError) as failure:
        compose_post("youtube", PLAIN, title="t", license="CC0")
    assert failure.value.code == "bad_license"
