"""Models and prices: one file, validated, and nothing is bought without a price."""

from datetime import date
from pathlib import Path

import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.vendors.answers import usage_at
from ettametta_pipelines.vendors.gemini import GeminiClient
from ettametta_pipelines.vendors.judges import open_client
from ettametta_pipelines.vendors.models import ModelPrice, load_models, models_of, price_of

OWN = """
providers:
  openai:
    model: tiny
    prices:
      tiny: {prompt_microusd: 10, output_microusd: 20, priced_on: 2026-11-20, image_tokens: 100}
"""


def test_every_packaged_provider_has_a_default_with_a_dated_price() -> None:
    for provider, known in load_models().items():
        price = price_of(provider, known.model, known.prices)
        assert price.output_microusd > price.prompt_microusd > 0
        assert date(2026, 1, 1) < price.priced_on


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gemini-3.5-flash-lite", True),
        ("gemini-3.5-flash-lite-001", True),
        ("gemini-3.5-flash-lite-preview-10-2026", True),
        ("gemini-3.5-flash-lite-2026-10-01", True),
        ("gemini-3.8-flash-lite", False),
    ],
)
def test_a_model_without_a_price_is_refused_before_anything_is_bought(
    settings_env: Settings, model: str, known: bool
) -> None:
    prices = models_of("gemini").prices
    if known:
        assert price_of("gemini", model, prices) == prices["gemini-3.5-flash-lite"]
        return
    with pytest.raises(PermanentError) as caught:
        GeminiClient(settings_env.endpoint("gemini"), model=model)
    assert caught.value.code == "gemini_price_unknown"
    assert "GEMINI_MODEL" in caught.value.remedy


def test_costs_are_rounded_up_to_whole_millionths() -> None:
    price = ModelPrice(
        prompt_microusd=300_000, output_microusd=2_500_000, priced_on=date(2026, 10, 7), image_tokens=1
    )
    assert usage_at(price, 1, 0).cost_microusd == 1
    assert usage_at(price, 1_000_000, 1_000_000).cost_microusd == 2_800_000
    assert usage_at(price, 0, 0).cost_microusd == 0


def test_a_file_of_ones_own_decides_model_and_price(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "models.yaml").write_text(OWN)
    monkeypatch.setenv("ETTAMETTA_MODELS", str(tmp_path / "models.yaml"))
    get_settings.cache_clear()
    assert open_client(get_settings(), "openai").model == "tiny"
    with pytest.raises(PermanentError) as caught:
        open_client(get_settings(), "groq")
    assert caught.value.code == "bad_models_file"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("providers: {openai: {model: other, prices: {}}}", "prices"),
        (OWN.replace("model: tiny", "model: other"), "other has no price"),
        (OWN.replace("prompt_microusd: 10", "prompt_microusd: -1"), "prompt_microusd"),
        (OWN.replace("openai", "acme"), "acme"),
        (OWN.replace("image_tokens", "image_token"), "image_token"),
        ("{", "cannot be read"),
    ],
)
def test_a_bad_file_is_refused_naming_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(PermanentError, match=named) as caught:
        load_models(file)
    assert caught.value.code == "bad_models_file"
