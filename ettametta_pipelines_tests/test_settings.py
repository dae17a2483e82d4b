"""Settings: what switches a vendor live, and what a bad value says."""

from pathlib import Path

import pytest

from ettametta_pipelines.settings import VENDORS, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.alias or name).upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_any_key_every_vendor_is_the_sandbox() -> None:
    settings = load_settings()
    for vendor in VENDORS:
        endpoint = settings.endpoint(vendor)
        assert endpoint.mode == "sandbox"
        assert endpoint.base_url.startswith(settings.sandbox_url)
        assert "not set" in endpoint.why


def test_one_key_switches_one_vendor_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "secret-gemini-key")
    settings = load_settings()
    assert settings.endpoint("gemini").mode == "live"
    assert settings.endpoint("gemini").base_url == VENDORS["gemini"].live_url
    assert {settings.endpoint(v).mode for v in VENDORS if v != "gemini"} == {"sandbox"}


def test_a_base_url_wins_over_sandbox_and_live_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_abc")
    monkeypatch.setenv("STRIPE_BASE_URL", "http://127.0.0.1:9/")
    endpoint = load_settings().endpoint("stripe")
    assert (endpoint.mode, endpoint.base_url) == ("live", "http://127.0.0.1:9/")


def test_a_base_url_without_its_last_slash_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILICON_FLOW_BASE_URL", "https://api.siliconflow.cn/v1")
    assert load_settings().silicon_flow_base_url == "https://api.siliconflow.cn/v1/"


@pytest.mark.parametrize(
    "variable",
    sorted(
        {spec.base_url_field.upper() for spec in VENDORS.values()}
        | {"GOOGLE_TOKEN_URL", "TIKTOK_AUTHORIZE_URL", "AWS_ENDPOINT_URL", "RENDER_NODE_URL"}
    ),
)
@pytest.mark.parametrize(
    "value", ["api.other.example", "https://", "ftp://api.example.com/", "https://a b/", "http://[::1"]
)
def test_what_is_no_address_is_refused_when_read(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable}: .* such as https://api.example.com/") as caught:
        load_settings()
    assert repr(value) not in str(caught.value), "an address may hold a password"


def test_half_a_pair_of_keys_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOK_CLIENT_KEY", "abc")
    with pytest.raises(SettingsError, match="TIKTOK_CLIENT_SECRET not set") as caught:
        load_settings().endpoint("tiktok")
    assert "TIKTOK_CLIENT_SECRET" in caught.value.remedy


def test_a_bad_value_in_dotenv_names_variable_value_and_remedy(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ETTAMETTA_SANDBOX_PORT=eighty\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "ETTAMETTA_SANDBOX_PORT" in str(caught.value)
    assert "'eighty'" in str(caught.value)
    assert ".env" in caught.value.remedy


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ETTAMETTA_BUSINESS_TIMEZONE", "Mars/Olympus"),
        ("ETTAMETTA_STORE", "ftp://bucket"),
        ("ETTAMETTA_UI_PORT", "70000"),
        ("ETTAMETTA_CURRENCY", "euro"),
        ("ETTAMETTA_MODEL_BUDGET_USD", "-1"),
        ("ETTAMETTA_MODEL_BUDGET_USD", "NaN"),
        ("ETTAMETTA_ACCOUNT_MODEL_BUDGET_USD", "a lot"),
        ("ETTAMETTA_ACCOUNT_MODEL_BUDGETS_USD", "acme"),
        ("ETTAMETTA_YOUTUBE_QUOTA", "search"),
        ("ETTAMETTA_YOUTUBE_QUOTA", "search=many"),
        ("ETTAMETTA_YOUTUBE_QUOTA", "searches=500"),
        ("ETTAMETTA_YOUTUBE_QUOTA", "search=0"),
        ("ETTAMETTA_SEARCHES_PER_NICHE", "0"),
        ("ETTAMETTA_RERUN_RESERVE", "-1"),
        ("ETTAMETTA_ACCOUNT_MODEL_BUDGETS_USD", "acme=5,beta=-1"),
    ],
)
def test_values_out_of_range_are_refused_when_read(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load_settings()


@pytest.mark.parametrize("variable", ["DATABASE_URL", "ETTAMETTA_STORE"])
def test_a_bad_address_does_not_show_its_password(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "mysql://user:hunter2@host/db")
    with pytest.raises(SettingsError, match=variable) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_secrets_are_hidden_in_representations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_canary")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:canary@host/db")
    settings = load_settings()
    assert "canary" not in repr(settings)
    assert "canary" not in repr(settings.endpoint("stripe"))
    assert settings.endpoint("stripe").secret("stripe_secret_key") == "sk_live_canary"


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUTUBE_API_KEY", "")
    monkeypatch.setenv("ETTAMETTA_HOME", "")
    settings = load_settings()
    assert settings.endpoint("youtube").mode == "sandbox"
    assert settings.home_dir.name == ".ettametta"


def test_plain_postgres_urls_get_the_psycopg_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://user@host/db")
    assert load_settings().database_url == "postgresql+psycopg://user@host/db"


def test_a_bucket_name_moves_the_store_to_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_STORAGE_BUCKET_NAME", "agency-media")
    assert load_settings().object_store_url == "s3://agency-media"


def test_the_shells_own_home_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert load_settings().home_dir == tmp_path / ".ettametta"


def test_while_a_client_secret_is_replaced_the_vendor_is_shown_the_new_one_and_messages_may_bear_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIKTOK_CLIENT_KEY", "a-client-key")
    monkeypatch.setenv("TIKTOK_CLIENT_SECRET", "new-secret, old-secret")
    settings = load_settings()
    assert settings.endpoint("tiktok").secret("tiktok_client_secret") == "new-secret"
    assert settings.webhook_secrets("tiktok", "tiktok_client_secret") == ("new-secret", "old-secret")
