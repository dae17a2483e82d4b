"""Links to media are signed for good, by any of the keys in use; without keys only this machine itself is served."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.media_links import media_url
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.storage.objects import open_store

KEY = "media/renditions/demo--0123456789abcdef/9x16/abc.mp4"
OLD, NEW = "an old key of thirty-two letters", "a new key of thirty-two letters!"


def configured(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def status(settings: Settings, url: str, *, peer: str = "127.0.0.1", **headers: str) -> int:
    open_store(settings).put(KEY, bytes(2048))
    client = TestClient(create_gateway(settings), client=(peer, 4000))
    answer = client.get(url.removeprefix(settings.gateway_url), headers={"range": "bytes=0-9", **headers})
    if answer.status_code == 206:
        assert len(answer.content) == 10
        assert "immutable" in answer.headers["cache-control"]
    return int(answer.status_code)


def test_a_link_written_long_ago_works_after_a_new_key_and_not_after_its_own_is_gone(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = media_url(configured(monkeypatch, MEDIA_SIGNING_KEYS=OLD), KEY)
    both = configured(monkeypatch, MEDIA_SIGNING_KEYS=f"{NEW},{OLD}")
    assert status(both, written, peer="203.0.113.5") == 206
    assert media_url(both, KEY) != written, "new links are signed with the new key"
    assert status(configured(monkeypatch, MEDIA_SIGNING_KEYS=NEW), written) == 403


def test_with_keys_no_link_without_a_signature_or_with_that_of_another_object_is_served(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configured(monkeypatch, MEDIA_SIGNING_KEYS=NEW)
    other = media_url(settings, KEY.replace("abc", "abd")).partition("?")[2]
    for query in ("", "?sig=", "?sig=%C3%BC", f"?{other}"):
        assert status(settings, f"/{KEY}{query}") == 403


def test_a_shared_link_ends_and_its_end_cannot_be_moved(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configured(monkeypatch, MEDIA_SIGNING_KEYS=NEW)
    soon = media_url(settings, KEY, until=utc_now() + timedelta(hours=1))
    over = media_url(settings, KEY, until=utc_now() - timedelta(seconds=5))
    assert status(settings, soon) == 206
    assert status(settings, over) == 403
    assert status(settings, over.partition("&expires")[0]) == 403
    assert status(settings, over.partition("&expires")[0] + "&expires=99999999999") == 403


def test_without_keys_this_machine_alone_is_served(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status(settings_env, f"/{KEY}") == 206
    assert status(settings_env, f"/{KEY}", peer="203.0.113.5") == 403
    assert status(settings_env, f"/{KEY}", **{"x-forwarded-for": "203.0.113.5"}) == 403
    public = configured(monkeypatch, PRODUCTION_DOMAIN="studio.example.com")
    assert status(public, f"/{KEY}") == 403


def test_links_lead_to_the_cdn_where_there_is_one(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = configured(monkeypatch, MEDIA_SIGNING_KEYS=NEW)
    far = configured(monkeypatch, MEDIA_CDN_URL="https://cdn.example.com/films/")
    assert media_url(far, KEY).startswith(f"https://cdn.example.com/films/{KEY}?sig=")
    assert media_url(far, KEY).partition("?")[2] == media_url(plain, KEY).partition("?")[2]
