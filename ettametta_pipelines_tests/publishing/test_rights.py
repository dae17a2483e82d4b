"""The rights record: one for every input, none passed over, kept with what is posted and never rewritten."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.disclosure import DEMANDS, disclosure_of
from ettametta_pipelines.publishing.orders import Wishes, order_for
from ettametta_pipelines.publishing.rights import keep_rights, rights_of
from ettametta_pipelines.publishing.trace import publication_chain
from ettametta_pipelines.state.models import PublicationRights
from ettametta_pipelines_tests.publishing.conftest import SOURCE as POSTED
from ettametta_pipelines_tests.publishing.conftest import Publisher

KEY = "uploads/acme/cooking/2026/11/22/a.mp4"
SOURCE = {
    "source_id": "acme--1", "account": "acme", "upload_key": KEY, "title": "Knife skills", "rights": "owned",
    "attribution": None, "sidecar_sha256": "5c",
}  # fmt: skip
FILE = {"object_key": "media/r.mp4", "sha256": "ab", "size_bytes": 10, "duration_s": 9.5}
MUSIC = {"title": "Blue by Ada", "rights": "cc_by", "attribution": "Blue by Ada, CC BY 4.0"}
CLIP = {
    "vendor": "pexels", "vendor_id": "7", "rights": "licensed", "licence": "Pexels License", "credit": "Footage: Bo",
    "standing": "live", "url": "https://www.pexels.com/video/7/", "fetched_at": "2026-11-01T00:00:00Z",
}  # fmt: skip
EVERYTHING = {
    "broll_json": json.dumps(
        {"cutaways": [CLIP, CLIP, CLIP | {"vendor": "library", "vendor_id": "x", "standing": ""}]}
    ),
    "voice_json": json.dumps({"engine": "espeak-ng", "voice": "en", "synthetic": True, "sha256": "cd"}),
    "recipe_json": json.dumps({"captions": {"style": "plain"}}),
}


def test_every_input_has_one_record_that_says_by_what_right_and_who_said_so() -> None:
    records = rights_of(FILE | EVERYTHING, SOURCE | {"music_json": json.dumps(MUSIC)})
    assert [(one.kind, one.right, one.standing) for one in records] == [
        ("upload", "owned", "own"),
        ("music", "cc_by", "own"),
        ("clip", "licensed", "live"),
        ("clip", "licensed", "own"),
        ("voice", "generated", "own"),
        ("font", "licensed", "own"),
    ]
    upload, music, stock, own, voice, font = records
    assert (upload.id, upload.declared_by, upload.evidence) == ("acme--1", "account acme", "sidecars/5c.json")
    assert music.credit == "Blue by Ada, CC BY 4.0"
    assert (stock.declared_by, stock.evidence, stock.declared_at) == (
        "pexels",
        CLIP["url"],
        CLIP["fetched_at"],
    )
    assert own.declared_by == "account acme"
    assert voice.synthetic
    assert font.licence == "SIL Open Font License 1.1"
    assert disclosure_of(records).credit == "Blue by Ada, CC BY 4.0\nFootage: Bo"


@pytest.mark.parametrize(
    ("rendition", "stated", "code", "named"),
    [
        ({}, {"rights": "undeclared"}, "rights_undeclared", KEY),
        ({}, {"music_json": json.dumps({"title": "Blue"})}, "music_right_missing", "Blue"),
        ({}, {"music_json": json.dumps(MUSIC | {"attribution": None})}, "attribution_missing", "Blue by Ada"),
        (
            {"broll_json": json.dumps({"cutaways": [CLIP | {"rights": "found"}]})},
            {},
            "footage_right_missing",
            "pexels 7",
        ),
        ({"voice_json": '{"engine": "a person", "synthetic": false}'}, {}, "voice_right_missing", "a person"),
    ],
)
def test_an_input_without_a_right_holds_the_post_and_is_named_with_what_to_declare(
    rendition: dict[str, Any], stated: dict[str, Any], code: str, named: str
) -> None:
    with pytest.raises(NeedsPersonError) as failure:
        order_for("youtube", SOURCE | stated, FILE | rendition, Wishes())
    assert (failure.value.code, named in failure.value.message) == (code, True)
    assert failure.value.remedy.endswith("then publish.")


def test_every_kind_of_input_says_what_to_do_without_a_right() -> None:
    records = rights_of(FILE | EVERYTHING, SOURCE | {"music_json": json.dumps(MUSIC)})
    assert {one.kind for one in records} == set(DEMANDS)


@pytest.mark.parametrize("stated", [{"sponsor": "Knives Ltd"}, {"paid_promotion": True}])
def test_a_sponsor_makes_the_post_a_paid_promotion_and_no_wish_takes_it_away(stated: dict[str, Any]) -> None:
    order = order_for("youtube", SOURCE | stated, FILE, Wishes(paid_promotion=False))
    assert order.post.paid
    assert not order_for("youtube", SOURCE, FILE, Wishes()).post.paid


def test_a_wish_adds_to_what_lineage_declares() -> None:
    order = order_for("youtube", SOURCE, FILE, Wishes(paid_promotion=True, synthetic_media=True))
    assert (order.post.paid, order.post.synthetic) == (True, True)
    spoken = order_for("youtube", SOURCE, FILE | EVERYTHING, Wishes(synthetic_media=False))
    assert spoken.post.synthetic


def test_rights_follow_a_corrected_sidecar_until_the_post_is_begun_and_then_stay(
    publisher: Publisher, video: bytes
) -> None:
    db, order = publisher.workshop.db, publisher.order("youtube", video)

    def keep(rights: str) -> None:
        keep_rights(db, "youtube", POSTED, order.rendition.sha256, rights_of({}, SOURCE | {"rights": rights}))

    def kept() -> Any:
        with db.session(write=False) as session:
            return session.scalars(sa.select(PublicationRights)).one().rights[0]["right"]

    keep("undeclared")
    keep("licensed")
    assert kept() == "licensed"
    publisher.to_youtube(order)
    keep("owned")
    assert kept() == "licensed"
    (publication,) = publication_chain(db, POSTED)
    assert [(one["kind"], one["right"]) for one in publication["rights"]] == [("upload", "licensed")]


def test_a_post_from_before_rights_were_kept_says_so(publisher: Publisher, video: bytes) -> None:
    publisher.to_youtube(publisher.order("youtube", video))
    (publication,) = publication_chain(publisher.workshop.db, POSTED)
    assert publication["rights"] is None
