"""The picture of a published video: set once a picture, after the post, and never a way back to posting."""

from io import BytesIO, StringIO
from typing import Any

import pytest
import sqlalchemy as sa
from rich.console import Console

from ettametta_pipelines.commands.trace import print_trace
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.thumbnail import Picture, choose_picture, show_by
from ettametta_pipelines.publishing.trace import publication_chain
from ettametta_pipelines.state.models import Publication, PublicationExtra
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import SOURCE, Publisher, YouTubeSeen

SETS = "/thumbnails/set"


def jpeg(publisher: Publisher, shade: int = 90) -> Picture:
    from PIL import Image

    buffer = BytesIO()
    Image.new("L", (36, 64), shade).save(buffer, "JPEG")
    key = f"media/thumbnails/{shade}.jpg"
    publisher.workshop.store.put(key, buffer.getvalue())
    return Picture(key, f"sha of {shade}")


def refuse(sandbox: SandboxUnderTest) -> None:
    sandbox.fault(
        "youtube", path_regex=SETS, status=403, body={"error": {"errors": [{"reason": "forbidden"}]}}
    )


@pytest.fixture
def published(publisher: Publisher, video: bytes) -> str:
    return publisher.to_youtube(publisher.order("youtube", video)).publication.id


def test_a_picture_is_set_once_and_another_one_replaces_it(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, published: str
) -> None:
    first, second = jpeg(publisher), jpeg(publisher, 120)
    done = [
        show_by(publisher.workshop, publisher.youtube_app, published, picture).set_now
        for picture in (first, first, second, second)
    ]
    assert done == [True, False, True, False]
    assert sandbox.count("youtube", "POST", SETS) == 2
    assert youtube_seen.videos[0]["has_custom_thumbnail"] is True
    assert len(youtube_seen.videos) == 1


def test_a_refused_picture_is_noted_and_leaves_the_publication_as_it_is(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, published: str
) -> None:
    refuse(sandbox)
    with pytest.raises(PermanentError):
        show_by(publisher.workshop, publisher.youtube_app, published, jpeg(publisher))
    with publisher.workshop.db.session(write=False) as session:
        (noted,) = session.scalars(sa.select(PublicationExtra)).all()
        row = session.get(Publication, published)
    assert (noted.error_code, noted.done_at) == ("youtube_forbidden", None)
    assert row is not None
    assert (row.state, row.error_code) == ("PUBLISHED", None)
    assert show_by(publisher.workshop, publisher.youtube_app, published, jpeg(publisher)).set_now
    assert len(youtube_seen.videos) == 1


def test_a_refused_token_is_refreshed_and_the_picture_set(
    publisher: Publisher, sandbox: SandboxUnderTest, published: str
) -> None:
    sandbox.fault(
        "youtube", path_regex=SETS, status=401, body={"error": {"errors": [{"reason": "authError"}]}}
    )
    assert show_by(publisher.workshop, publisher.youtube_app, published, jpeg(publisher)).set_now


def test_a_video_that_is_not_published_and_one_without_pictures_wait(
    publisher: Publisher, published: str
) -> None:
    waits = show_by(publisher.workshop, publisher.youtube_app, "unknown", jpeg(publisher))
    assert (waits.set_now, waits.waits_for) == (False, "the video to be published")
    nothing = show_by(publisher.workshop, publisher.youtube_app, published, None)
    assert (nothing.set_now, nothing.waits_for) == (False, "thumbnails to choose from")


def test_the_picture_is_chosen_by_rank_shape_and_title() -> None:
    rows = [
        {
            "rank": rank,
            "shape": shape,
            "variant": variant,
            "object_key": f"{rank}{shape}{variant}",
            "sha256": "x",
        }
        for rank in (1, 2)
        for shape in ("16x9", "9x16")
        for variant in ("plain", "headline")
    ]
    assert choose_picture(rows, "9x16") == Picture("19x16plain", "x")
    assert choose_picture(rows, "9x16", rank=2, variant="headline") == Picture("29x16headline", "x")
    assert choose_picture([], "9x16") is None
    with pytest.raises(PermanentError) as failure:
        choose_picture(rows, "9x16", rank=3)
    assert failure.value.code == "no_such_thumbnail"
    assert "2 headline" in failure.value.remedy


def test_the_trace_shows_every_picture_and_what_became_of_it(
    publisher: Publisher, sandbox: SandboxUnderTest, published: str
) -> None:
    shown, unused = jpeg(publisher), jpeg(publisher, 120)
    show_by(publisher.workshop, publisher.youtube_app, published, shown)
    (told,) = publication_chain(publisher.workshop.db, SOURCE)
    assert [(extra["kind"], extra["sha256"], extra["error_code"]) for extra in told["extras"]] == [
        ("thumbnail", shown.sha256, None)
    ]
    rows = [
        {"shape": "9x16", "rank": rank, "variant": "plain", **vars(picture)}
        for rank, picture in enumerate((shown, unused), start=1)
    ]
    text = printed([told], rows)
    assert f"{shown.object_key}  shown on youtube" in text
    assert f"{unused.object_key}  not used" in text
    assert "thumbnail set" in text
    refuse(sandbox)
    with pytest.raises(PermanentError):
        show_by(publisher.workshop, publisher.youtube_app, published, unused)
    text = printed(publication_chain(publisher.workshop.db, SOURCE), rows)
    assert f"{unused.object_key}  refused by youtube" in text
    assert "youtube_forbidden" in text


def printed(publications: list[dict[str, Any]], thumbnails: list[dict[str, Any]]) -> str:
    console = Console(width=400, file=StringIO())
    print_trace(
        {
            "source_id": SOURCE, "source": None, "analysis": None, "renditions": [], "metrics": [],
            "thumbnails": thumbnails, "publications": publications, "revenue": [], "costs": [],
        },
        console,
        full=True,
    )  # fmt: skip
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)
