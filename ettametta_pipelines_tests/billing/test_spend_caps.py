"""Whose word counts for an account's monthly cap."""

from pathlib import Path

import pytest

from ettametta_pipelines.billing.spend_caps import cap_of
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.state.session import open_state


def test_an_accounts_own_setting_then_its_tier_then_the_setting_for_all(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    db = open_state(settings_env)
    house = cap_of(settings_env, db, "agency")
    assert (house.microusd, house.why) == (150_000_000, "ETTAMETTA_ACCOUNT_SPEND_CAPS_USD")
    assert (cap_of(settings_env, db, "acme").microusd, cap_of(settings_env, db, "acme").why) == (
        70_000_000, "tier Empire",
    )  # fmt: skip
    monkeypatch.setenv("ETTAMETTA_DEFAULT_TIER", "creator")
    monkeypatch.setenv("ETTAMETTA_ACCOUNT_SPEND_CAPS_USD", "beta=2.50")
    settings = load_settings()
    creator = cap_of(settings, db, "acme")
    assert creator.microusd == 20_000_000
    assert "Empire has 70 USD: ettametta plan acme --checkout --tier empire." in creator.remedy
    assert "ETTAMETTA_ACCOUNT_SPEND_CAPS_USD=acme=AMOUNT" in creator.remedy
    assert cap_of(settings, db, "beta").microusd == 2_500_000
    plain = tmp_path / "tiers.yaml"
    plain.write_text(
        "currency: USD\ntiers:\n  all: {title: All, monthly_minor: 0, videos: 9, releases: 1}\n"
        "on_dispute: keep\non_refund: keep\n"
    )
    monkeypatch.setenv("ETTAMETTA_TIERS", str(plain))
    monkeypatch.setenv("ETTAMETTA_DEFAULT_TIER", "all")
    assert cap_of(load_settings(), db, "acme").why == "ETTAMETTA_ACCOUNT_SPEND_CAP_USD"
    assert cap_of(load_settings(), db, "acme").microusd == 50_000_000
