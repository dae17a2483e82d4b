"""Which addresses a link may lead to, how they are shown, and what is added when one is followed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.commerce.networks import Network, Networks, load_networks
from ettametta_pipelines.commerce.targets import checked_target, host_of, shown_host, tracked, with_parameters
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.settings import Settings

NETWORKS = Networks(
    {"awin": Network(title="Awin", parameter="clickref"), "other": Network(title="Another")},
    frozenset({"shop.example.com"}),
)

REFUSED = [
    "", "javascript:alert(1)", "data:text/html,x", "ftp://a.example.com/", "//a.example.com/", "a.example.com",
    "https://", "https:///x", "https://user@a.example.com/", "https://user:pw@a.example.com/", "https://a.example.com:0x/",
    "https://a.example.com/\r\nSet-Cookie: x=1", "https://a.example.com/\tb", "https://a.example.com/\u202egpj.exe",
    "https://a.example.com\\@evil.example.com/", "https://a.example.com/<script>", "https://localhost/",
    "https://2130706433/", "https://0x7f.1/", "https://a..example.com/", "https://a.example.com/" + "x" * 2000,
    "https://[::bad/", "https://a.example.com:99999/", "https://a\u3002\u200bexample.com/", "https://ex_ample.com/",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED, ids=lambda url: repr(url)[:40])
def test_an_address_that_is_not_a_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(PermanentError) as refusal:
        checked_target(url)
    assert refusal.value.code == "bad_target"


KEPT = {
    " https://A.Example.com/x?a=1&b=%20c#d ": "https://a.example.com/x?a=1&b=%20c#d",
    "http://a.example.com": "http://a.example.com/",
    "https://bücher.example/straße?q=ö": "https://xn--bcher-kva.example/stra%C3%9Fe?q=%C3%B6",
    "https://[2001:db8::1]:8443/x": "https://[2001:db8::1]:8443/x",
}


@pytest.mark.parametrize(("url", "stored"), KEPT.items())
def test_an_address_is_kept_in_ascii(url: str, stored: str) -> None:
    assert checked_target(url) == stored
    assert checked_target(stored) == stored


@given(st.text(max_size=60))
def test_whatever_is_taken_is_one_line_of_ascii_without_credentials(text: str) -> None:
    try:
        url = checked_target(f"https://a.example.com/{text}")
    except PermanentError:
        return
    assert url.isascii()
    assert url.isprintable()
    assert host_of(url) == "a.example.com"


def test_a_host_of_lookalike_letters_is_never_shown_by_its_letters_alone() -> None:
    assert shown_host(checked_target("https://аpple.com/")) == "xn--pple-43d.com (in letters: аpple.com)"
    assert shown_host("https://a.example.com/") == "a.example.com"


def test_parameters_replace_those_of_the_same_name_and_leave_the_rest_to_the_letter() -> None:
    url = "https://a.example.com/x?clickref=old&q=a%2Bb+c&empty=&click%72ef=two#end"
    assert with_parameters(url, {"clickref": "n&w"}) == (
        "https://a.example.com/x?q=a%2Bb+c&empty=&clickref=n%26w#end"
    )


def test_a_follower_is_known_again_by_sub_id_at_a_network_and_by_utm_in_the_own_shop() -> None:
    about = {"networks": NETWORKS, "platform": "tiktok", "niche": "travel", "source_id": "acme--1"}
    assert tracked("https://m.example.com/", "c0de", network="awin", is_shop=False, **about) == (
        "https://m.example.com/?clickref=c0de"
    )
    assert (
        tracked("https://m.example.com/", "c0de", network="other", is_shop=False, **about)
        == "https://m.example.com/"
    )
    utm = "utm_source=tiktok&utm_medium=video&utm_campaign=travel&utm_content=acme--1"
    for url, is_shop in (("https://shop.example.com/mug", False), ("https://else.example.com/mug", True)):
        assert tracked(url, "c0de", network="awin", is_shop=is_shop, **about) == f"{url}?{utm}"


def test_the_packaged_networks_load_and_the_shopify_host_is_an_own_shop(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import load_settings

    assert load_networks(settings_env).by_name["amazon"].parameter == "ascsubtag"
    monkeypatch.setenv("SHOPIFY_SHOP_URL", "acme")
    assert load_networks(load_settings()).is_own_shop("acme.myshopify.com")
    bad = settings_env.home_dir / "networks.yaml"
    bad.write_text("networks: {Bad Name: {title: x}}")
    monkeypatch.setenv("ETTAMETTA_NETWORKS", str(bad))
    with pytest.raises(PermanentError, match="Bad Name"):
        load_networks(load_settings())
