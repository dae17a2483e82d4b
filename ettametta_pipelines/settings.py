"""Environment -> typed settings. The only reader of `os.environ` and `.env` in the project.

Secrets are `SecretStr` and are handed to vendor clients when they are made, never to Dagster configuration.
Each vendor resolves to one `VendorEndpoint`: live when its own key is set, at `<VENDOR>_BASE_URL` when that is
set, else the local sandbox; `ettametta doctor` and resource metadata say which.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.redaction import guard_process, secrets_of

VendorMode = Literal["sandbox", "live"]
QuotaBucket = Literal["search", "videos_insert", "batch_get_stats", "units"]
ExpirablePrefix = Literal["uploads", "media/analysis", "media/renditions", "media/trials"]
# Where days begin unless ETTAMETTA_FIRST_DAY says otherwise, and at the earliest: older than every vendor.
DEFAULT_FIRST_DAY, EARLIEST_FIRST_DAY = date(2026, 1, 1), date(2005, 1, 1)
Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000)]


class SettingsError(PermanentError):
    """A variable in the environment or `.env` has a value that cannot be used."""


@dataclass(frozen=True)
class VendorSpec:
    """Where a vendor lives and which variables switch it from sandbox to live.

    `stand_in` says what works instead where, without a key, that is not the sandbox.
    """

    name: str
    live_url: str
    key_fields: tuple[str, ...]
    base_url_field: str
    sandbox_path: str
    purpose: str
    stand_in: str = ""


# One row per outside service. `google` is the channel side of YouTube (OAuth, uploads), `youtube` its public data.
VENDORS: dict[str, VendorSpec] = {
    spec.name: spec
    for spec in (
        VendorSpec(
            "youtube", "https://youtube.googleapis.com/", ("youtube_api_key",), "youtube_base_url", "youtube",
            "video data: discovery, metrics",
        ),
        VendorSpec(
            "google", "https://youtube.googleapis.com/", ("google_client_id", "google_client_secret"),
            "google_base_url", "youtube", "YouTube channels and uploads",
        ),
        VendorSpec(
            "tiktok", "https://open.tiktokapis.com/", ("tiktok_client_key", "tiktok_client_secret"),
            "tiktok_base_url", "tiktok", "TikTok channels and posting",
        ),
        VendorSpec(
            "gemini", "https://generativelanguage.googleapis.com/", ("gemini_api_key",), "gemini_base_url", "gemini",
            "judges candidates, writes briefs",
        ),
        VendorSpec(
            "openai", "https://api.openai.com/v1/", ("openai_api_key",), "openai_base_url", "openai/v1",
            "where Gemini does not answer",
        ),
        VendorSpec(
            "groq", "https://api.groq.com/openai/v1/", ("groq_api_key",), "groq_base_url", "groq/openai/v1",
            "where OpenAI does not either",
        ),
        VendorSpec(
            "stripe", "https://api.stripe.com", ("stripe_secret_key",), "stripe_base_url", "stripe",
            "subscriptions, payment ledger",
        ),
        VendorSpec(
            "shopify", "https://{shop}/", ("shopify_shop_url", "shopify_access_token"), "shopify_base_url", "shopify",
            "orders, payouts, products",
        ),
        VendorSpec(
            "pexels", "https://api.pexels.com/", ("pexels_api_key",), "pexels_base_url", "pexels",
            "stock footage for cutaways",
        ),
        VendorSpec(
            "elevenlabs", "https://api.elevenlabs.io/", ("elevenlabs_api_key",), "elevenlabs_base_url", "elevenlabs",
            "voice-over", stand_in="the local voice espeak-ng speaks instead, and says so",
        ),
        VendorSpec(
            "siliconflow", "https://api.siliconflow.com/v1/", ("silicon_flow_api_key",), "silicon_flow_base_url",
            "siliconflow/v1", "Wan2.2 clips",
        ),
        VendorSpec(
            "vertex", "https://{location}-aiplatform.googleapis.com/", ("vertex_project",), "vertex_base_url",
            "vertex", "Veo clips, asked on Vertex",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class VendorEndpoint:
    """One vendor as a client sees it.

    `secrets` is keyed by settings field, e.g. `stripe_secret_key`; `max_retries` counts the tries after the first.
    """

    name: str
    mode: VendorMode
    base_url: str
    why: str
    secrets: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    timeout_s: float = 30.0
    max_retries: int = 3

    @property
    def standing(self) -> str:
        """For operators: `sandbox` or `live`, and what decides it."""
        return f"{self.mode} ({self.why})"

    def secret(self, name: str) -> str:
        """Plain value of a secret, for the client's constructor only. In the sandbox, a fixed stand-in.

        Of a client secret that is being replaced, `new,old`, the first: the second is for messages signed with it.
        """
        if name in self.secrets:
            value = self.secrets[name].get_secret_value()
            return value.partition(",")[0].strip() if name.endswith("_client_secret") else value
        return f"sandbox-{name.replace('_', '-')}"


def _pairs(value: Any, expected: str) -> Any:
    """`a=1,b=2` as a mapping of texts; what is no text is left to its type."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not (name.strip() and amount.strip()) for name, _, amount in pairs):
        raise ValueError(expected)
    return {name.strip(): amount.strip() for name, _, amount in pairs}


def _tokens(value: SecretStr | None) -> list[tuple[str, str]]:
    """(name, token) of `name=token,name=token`."""
    parts = value.get_secret_value().split(",") if value is not None else []
    pairs = (part.partition("=") for part in parts if part.strip())
    return [(name.strip(), token.strip()) for name, _, token in pairs]


# Who has a `<VENDOR>_BASE_URL`.
_ADDRESSED = tuple(sorted({spec.base_url_field for spec in VENDORS.values()}))


class Settings(BaseSettings):
    """All configuration. Variable names are the field names in upper case unless an alias says otherwise."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
    )

    home: Path = Field(default=Path(".ettametta"), alias="ETTAMETTA_HOME")
    store_url: str = Field(default="", alias="ETTAMETTA_STORE")
    database_url_raw: SecretStr = Field(default=SecretStr(""), alias="DATABASE_URL")
    # Widths of Dagster's pools where `ettametta migrate` sets them; see docs/kubernetes.md.
    pool_limits: Annotated[dict[str, Annotated[int, Field(ge=0, le=1000)]], NoDecode] = Field(
        default={}, alias="ETTAMETTA_POOL_LIMITS"
    )
    cache_url: str = Field(default="", alias="CACHE_URL")
    # What links to media are signed with, commas between: the first signs, all are taken; see docs/production.md.
    media_signing_keys: SecretStr = Field(default=SecretStr(""), alias="MEDIA_SIGNING_KEYS")
    media_cdn_url: str = Field(default="", alias="MEDIA_CDN_URL", pattern=r"^(https?://[^\s?#]+)?$")
    # Requests a second of one client at the gateway (0: any number), and the header in which a proxy names the client.
    requests_a_second: float = Field(default=50, ge=0, le=100_000, alias="ETTAMETTA_REQUESTS_A_SECOND")
    client_header: str = Field(default="", alias="ETTAMETTA_CLIENT_HEADER", pattern="^([A-Za-z0-9-]{1,60})?$")
    # Connections of one process to Postgres that stay open, and more under load.
    database_pool: int = Field(default=5, ge=1, le=100, alias="ETTAMETTA_DATABASE_POOL")
    database_overflow: int = Field(default=10, ge=0, le=100, alias="ETTAMETTA_DATABASE_OVERFLOW")
    # Settings of the Dagster instance that `ettametta dev` places; the project's dagster.yaml if unset.
    instance_file: Path | None = Field(default=None, alias="ETTAMETTA_INSTANCE_FILE")
    production_domain: str = Field(default="", alias="PRODUCTION_DOMAIN")
    business_timezone: str = Field(default="UTC", alias="ETTAMETTA_BUSINESS_TIMEZONE")
    # The first business day there is a partition of: where books and figures of earlier years shall be read.
    first_day: date = Field(default=DEFAULT_FIRST_DAY, alias="ETTAMETTA_FIRST_DAY")
    reporting_currency: str = Field(default="USD", alias="ETTAMETTA_CURRENCY", pattern="^[A-Z]{3}$")
    niches_file: Path | None = Field(default=None, alias="ETTAMETTA_NICHES")
    channels_file: Path | None = Field(default=None, alias="ETTAMETTA_CHANNELS")
    networks_file: Path | None = Field(default=None, alias="ETTAMETTA_NETWORKS")
    encryption_keys: SecretStr = Field(default=SecretStr(""), alias="ETTAMETTA_ENCRYPTION_KEYS")
    # Who is alerted by what; see docs/alerts.md. Addresses that hold passwords or tokens are secrets.
    alerts_file: Path | None = Field(default=None, alias="ETTAMETTA_ALERTS")
    smtp_url: SecretStr = Field(default=SecretStr(""), alias="ETTAMETTA_SMTP_URL")
    alert_from: str = Field(default="", alias="ETTAMETTA_ALERT_FROM")
    alert_to: str = Field(default="", alias="ETTAMETTA_ALERT_TO")
    alert_webhooks: SecretStr = Field(default=SecretStr(""), alias="ETTAMETTA_ALERT_WEBHOOKS")
    # Where people open the Dagster UI, for links in messages; this machine's port if not set.
    ui_address: str = Field(default="", alias="ETTAMETTA_UI_URL", pattern=r"^(https?://[^\s]+)?$")
    ui_port: int = Field(default=3000, ge=1, le=65535, alias="ETTAMETTA_UI_PORT")
    sandbox_port: int = Field(default=8400, ge=1, le=65535, alias="ETTAMETTA_SANDBOX_PORT")
    gateway_port: int = Field(default=8000, ge=1, le=65535, alias="ETTAMETTA_GATEWAY_PORT")
    metrics_port: int = Field(default=9464, ge=1, le=65535, alias="ETTAMETTA_METRICS_PORT")
    # Header in which an authenticating proxy in front of the gateway names the person; see docs/accounts.md.
    proxy_user_header: str = Field(
        default="", alias="ETTAMETTA_PROXY_USER_HEADER", pattern="^([A-Za-z0-9-]{1,60})?$"
    )
    # Accounts whose channels, posts, links and plan an operator may see and change; empty: everybody, those of all.
    operator_accounts: Annotated[dict[str, str], NoDecode] = Field(
        default={}, alias="ETTAMETTA_OPERATOR_ACCOUNTS"
    )
    encoder: str = Field(default="x264", alias="ETTAMETTA_ENCODER")
    # The platform's amendment on derived metrics and storage was accepted; see docs/discovery.md.
    keep_statistics: bool = Field(default=False, alias="ETTAMETTA_KEEP_STATISTICS")
    # Closed to commercial use by TikTok; see docs/discovery.md.
    tiktok_research_api: bool = Field(default=False, alias="ETTAMETTA_TIKTOK_RESEARCH_API")

    # What Google granted the project beyond the defaults, calls or units a day by bucket; see docs/discovery.md.
    youtube_quota: Annotated[dict[QuotaBucket, Annotated[int, Field(ge=1, le=100_000_000)]], NoDecode] = (
        Field(default={}, alias="ETTAMETTA_YOUTUBE_QUOTA")
    )
    # Searches a day for a niche of weight 1, and those that only repeated partitions may use.
    searches_per_niche: int = Field(default=6, ge=1, le=10_000, alias="ETTAMETTA_SEARCHES_PER_NICHE")
    rerun_reserve: int = Field(default=10, ge=0, le=10_000, alias="ETTAMETTA_RERUN_RESERVE")

    youtube_api_key: SecretStr | None = None
    google_client_id: SecretStr | None = None
    google_client_secret: SecretStr | None = None
    tiktok_client_key: SecretStr | None = None
    tiktok_client_secret: SecretStr | None = None
    gemini_api_key: SecretStr | None = None
    gemini_model: str = ""
    openai_api_key: SecretStr | None = None
    openai_model: str = ""
    groq_api_key: SecretStr | None = None
    groq_model: str = ""
    models_file: Path | None = Field(default=None, alias="ETTAMETTA_MODELS")
    # US dollars a day for answers of models: all accounts together, each account, accounts with their own limit.
    model_budget: Dollars = Field(default=Decimal(10), alias="ETTAMETTA_MODEL_BUDGET_USD")
    account_model_budget: Dollars = Field(default=Decimal(5), alias="ETTAMETTA_ACCOUNT_MODEL_BUDGET_USD")
    account_model_budgets: Annotated[dict[str, Dollars], NoDecode] = Field(
        default={}, alias="ETTAMETTA_ACCOUNT_MODEL_BUDGETS_USD"
    )
    # US dollars a month for everything an account buys, models' answers included: accounts with a cap of their own,
    # and what counts where neither that nor the account's tier says anything; see docs/revenue.md.
    account_spend_caps: Annotated[dict[str, Dollars], NoDecode] = Field(
        default={"agency": Decimal(150)}, alias="ETTAMETTA_ACCOUNT_SPEND_CAPS_USD"
    )
    account_spend_cap: Dollars = Field(default=Decimal(50), alias="ETTAMETTA_ACCOUNT_SPEND_CAP_USD")
    # How an order's revenue goes to the videos its buyer came from, and how far back; see docs/revenue.md.
    attribution_rule: Literal["last_touch", "first_touch", "linear"] = Field(
        default="last_touch", alias="ETTAMETTA_ATTRIBUTION_RULE"
    )
    attribution_window_days: int = Field(default=30, ge=1, le=365, alias="ETTAMETTA_ATTRIBUTION_WINDOW_DAYS")
    margin_window_days: int = Field(default=90, ge=1, le=730, alias="ETTAMETTA_MARGIN_WINDOW_DAYS")
    engines_file: Path | None = Field(default=None, alias="ETTAMETTA_ENGINES")
    # Models of clips other than those engines.yaml names first; see docs/synthesis.md.
    veo_model: str = ""
    silicon_flow_model: str = ""
    ltx_model: str = ""
    wan_model: str = ""
    silicon_flow_api_key: SecretStr | None = None
    vertex_project: SecretStr | None = None
    vertex_location: str = Field(default="us-central1", pattern="^[a-z]+(-[a-z]+[0-9]+)?$")
    # Where clips are made on a GPU; see docs/gpu.md. `auto` takes the first of node, pod and local that is configured.
    gpu_runner: Literal["auto", "node", "pod", "local"] = Field(default="auto", alias="ETTAMETTA_GPU_RUNNER")
    gpu_models_dir: Path | None = Field(default=None, alias="ETTAMETTA_GPU_MODELS_DIR")
    gpu_memory: Literal["auto", "resident", "model_offload", "group_offload", "fp8"] = Field(
        default="auto", alias="ETTAMETTA_GPU_MEMORY"
    )
    # A file the worker keeps its newest figures in, for whoever started it.
    gpu_progress: Path | None = Field(default=None, alias="ETTAMETTA_GPU_PROGRESS")
    # Interpreter of an environment with the `gpu` extra, for GPU work on this machine.
    gpu_python: Path | None = Field(default=None, alias="ETTAMETTA_GPU_PYTHON")
    gpu_image: str = Field(default="", alias="ETTAMETTA_GPU_IMAGE")
    gpu_pod_template: Path | None = Field(default=None, alias="ETTAMETTA_GPU_POD_TEMPLATE")
    gpu_namespace: str = Field(default="", alias="ETTAMETTA_GPU_NAMESPACE")
    # Seconds a GPU pod may wait for a node, load its image, and work.
    gpu_schedule_s: float = Field(default=900, gt=0, alias="ETTAMETTA_GPU_SCHEDULE_S")
    gpu_pull_s: float = Field(default=900, gt=0, alias="ETTAMETTA_GPU_PULL_S")
    gpu_run_s: float = Field(default=3600, gt=0, alias="ETTAMETTA_GPU_RUN_S")
    # Seconds without a job after which a render node's worker lets go of its model.
    gpu_idle_s: float = Field(default=600, ge=0, alias="ETTAMETTA_GPU_IDLE_S")
    # Of the pod this process runs in, by the downward API: what it makes is then removed with it.
    pod_name: str = ""
    pod_uid: str = ""
    pod_namespace: str = ""
    render_node_url: str = ""
    render_node_port: int = Field(default=8500, ge=1, le=65535, alias="ETTAMETTA_RENDER_NODE_PORT")
    # On the node itself: its Redis, who is told when a job is finished, and how many GPUs work.
    render_node_redis: str = Field(default="redis://127.0.0.1:6379/0", alias="ETTAMETTA_RENDER_NODE_REDIS")
    render_node_webhook_url: str = Field(default="", alias="ETTAMETTA_RENDER_NODE_WEBHOOK")
    # Seconds after which a worker that is not heard of is taken for lost.
    render_node_lease_s: float = Field(default=30, gt=0, alias="ETTAMETTA_RENDER_NODE_LEASE_S")
    # A node's clips that were fetched, or of whose end the webhook told so many seconds ago, are kept no longer than so
    # many days, and while all its clips have no more than so many gigabytes.
    render_node_grace_s: float = Field(default=86_400, ge=0, alias="ETTAMETTA_RENDER_NODE_GRACE_S")
    render_node_keep_days: float = Field(default=7, ge=0, alias="ETTAMETTA_RENDER_NODE_KEEP_DAYS")
    render_node_keep_gb: float = Field(default=100, ge=0, alias="ETTAMETTA_RENDER_NODE_KEEP_GB")
    render_node_gpus: int = Field(default=1, ge=0, le=16, alias="ETTAMETTA_RENDER_NODE_GPUS")
    stripe_secret_key: SecretStr | None = None
    tiers_file: Path | None = Field(default=None, alias="ETTAMETTA_TIERS")
    # Of accounts that never subscribed; empty takes the dearest while Stripe is the sandbox, and free when it is live.
    default_tier: str = Field(default="", alias="ETTAMETTA_DEFAULT_TIER")
    payment_grace_days: int = Field(default=7, ge=0, le=90, alias="ETTAMETTA_PAYMENT_GRACE_DAYS")
    stripe_webhook_secret: SecretStr | None = None
    shopify_shop_url: SecretStr | None = None
    shopify_access_token: SecretStr | None = None
    # What Shopify signs its messages with: the secret of the app, not its token.
    shopify_client_secret: SecretStr | None = None
    # What affiliate networks call /postbacks/{network} with: network=token, with commas between; a network may stand
    # there twice while its token is replaced. See docs/commerce.md.
    postback_tokens: SecretStr | None = Field(default=None, alias="ETTAMETTA_POSTBACK_TOKENS")
    # Shared with the render node, which signs its callbacks with it.
    render_node_secret: SecretStr | None = None
    pexels_api_key: SecretStr | None = None
    elevenlabs_api_key: SecretStr | None = None
    elevenlabs_model: str = Field(default="eleven_multilingual_v2", alias="ELEVENLABS_MODEL")
    elevenlabs_voice: str = Field(
        default="JBFqnCBsd6RMkjVDRZzb", alias="ELEVENLABS_VOICE", pattern=r"^[A-Za-z0-9]{8,40}$"
    )

    youtube_base_url: str = ""
    google_base_url: str = ""
    google_token_url: str = "https://oauth2.googleapis.com/token"
    google_authorize_url: str = "https://accounts.google.com/o/oauth2/v2/auth"
    google_revoke_url: str = "https://oauth2.googleapis.com/revoke"
    tiktok_authorize_url: str = "https://www.tiktok.com/v2/auth/authorize/"
    tiktok_base_url: str = ""
    gemini_base_url: str = ""
    openai_base_url: str = ""
    groq_base_url: str = ""
    stripe_base_url: str = ""
    shopify_base_url: str = ""
    pexels_base_url: str = ""
    elevenlabs_base_url: str = ""
    silicon_flow_base_url: str = ""
    vertex_base_url: str = ""

    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_storage_bucket_name: str = ""
    aws_endpoint_url: str = ""
    aws_region: str = "us-east-1"
    # What leaves the store, and when; see docs/uploads.md. 0 is never.
    abort_uploads_days: int = Field(default=7, ge=0, le=365, alias="ETTAMETTA_ABORT_UPLOADS_DAYS")
    expire_days: Annotated[dict[ExpirablePrefix, Annotated[int, Field(ge=7, le=3650)]], NoDecode] = Field(
        default={}, alias="ETTAMETTA_EXPIRE_DAYS"
    )
    cold_sources_days: int = Field(default=0, ge=0, le=3650, alias="ETTAMETTA_COLD_SOURCES_DAYS")
    # Only classes whose objects are read like any other: a source may be rendered again at any time.
    cold_sources_class: Literal["STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER_IR"] = Field(
        default="STANDARD_IA", alias="ETTAMETTA_COLD_SOURCES_CLASS"
    )
    archive_after_days: int = Field(default=90, ge=7, le=3650, alias="ETTAMETTA_ARCHIVE_AFTER_DAYS")
    # How long Dagster's own history is kept; alerts look back two weeks.
    history_days: int = Field(default=90, ge=15, le=3650, alias="ETTAMETTA_HISTORY_DAYS")
    # Address of the SQS queue that the bucket tells of new uploads; see docs/uploads.md.
    upload_queue: str = Field(default="", alias="ETTAMETTA_UPLOAD_QUEUE", pattern="^(https?://[^ ]+)?$")

    @field_validator("business_timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("not an IANA time zone such as Europe/Berlin") from error
        return value

    @field_validator("first_day")
    @classmethod
    def _no_later_than_usual(cls, value: date) -> date:
        # Every night's schedules reach back weeks, and ask for these days' partitions.
        if not EARLIEST_FIRST_DAY <= value <= DEFAULT_FIRST_DAY:
            raise ValueError(
                f"must be a day between {EARLIEST_FIRST_DAY} and {DEFAULT_FIRST_DAY}, such as 2023-01-01"
            )
        return value

    @field_validator("account_model_budgets", "account_spend_caps", mode="before")
    @classmethod
    def _budgets_by_account(cls, value: Any) -> Any:
        return _pairs(value, "must be account=dollars, with commas between, such as acme=10,beta=2.50")

    @field_validator("operator_accounts", mode="before")
    @classmethod
    def _accounts_by_operator(cls, value: Any) -> Any:
        return _pairs(
            value, "must be name=accounts, with commas between, such as ann@example.com=acme beta,bob=acme"
        )

    @field_validator("postback_tokens")
    @classmethod
    def _long_tokens(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all(name and len(token) >= 20 for name, token in _tokens(value)):
            raise ValueError(
                "must be network=token, with commas between, each token of 20 characters or more"
            )
        return value

    @field_validator("youtube_quota", mode="before")
    @classmethod
    def _quota_by_bucket(cls, value: Any) -> Any:
        return _pairs(value, "must be bucket=amount, with commas between, such as search=500,units=50000")

    @field_validator("pool_limits", mode="before")
    @classmethod
    def _width_by_pool(cls, value: Any) -> Any:
        return _pairs(value, "must be pool=width, with commas between, such as renders=8,gpu=4")

    @field_validator("expire_days", mode="before")
    @classmethod
    def _days_by_prefix(cls, value: Any) -> Any:
        return _pairs(
            value, "must be prefix=days, with commas between, such as uploads=90,media/analysis=180"
        )

    @field_validator("cold_sources_days")
    @classmethod
    def _old_enough_for_s3(cls, value: int) -> int:
        if 0 < value < 30:
            raise ValueError("S3 moves objects to colder classes after 30 days at the earliest")
        return value

    @field_validator(
        *_ADDRESSED, "google_token_url", "google_authorize_url",
        "google_revoke_url", "tiktok_authorize_url", "aws_endpoint_url", "render_node_url", "render_node_webhook_url",
    )  # fmt: skip
    @classmethod
    def _web_address(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            known = False
        if not known or re.search(r"[\s<>]", value):
            raise ValueError("must be an address such as https://api.example.com/")
        # Clients put their paths right behind it.
        return value if not str(info.field_name).endswith("_base_url") or value.endswith("/") else f"{value}/"

    @field_validator("production_domain")
    @classmethod
    def _bare_domain(cls, value: str) -> str:
        # It becomes part of the redirect address, which vendors compare letter by letter.
        if value and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?", value):
            raise ValueError(
                "must be a host name in lower case, such as studio.example.com, without https://"
            )
        return value

    @field_validator("media_signing_keys")
    @classmethod
    def _long_keys(cls, value: SecretStr) -> SecretStr:
        if any(len(key.strip()) < 32 for key in value.get_secret_value().split(",") if key.strip()):
            raise ValueError("must be keys of 32 characters or more, with commas between")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _known_mail_server(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        try:
            known = not url or (url.startswith(("smtp://", "smtps://")) and bool(urlsplit(url).hostname))
            _ = urlsplit(url).port
        except ValueError:
            known = False
        if not known:
            raise ValueError("must be smtp://user:password@host:587 or smtps://user:password@host:465")
        return value

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value and not value.startswith(("file://", "s3://")):
            raise ValueError("must start with file:// or s3://")
        return value

    @field_validator("database_url_raw")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and not url.startswith(
            ("sqlite:///", "postgresql://", "postgresql+psycopg://", "postgres://")
        ):
            raise ValueError("must start with sqlite:/// or postgresql://")
        return value

    @property
    def home_dir(self) -> Path:
        """Absolute home; every file the project writes at run time is under it."""
        return self.home.expanduser().resolve()

    @property
    def dagster_home(self) -> Path:
        return self.home_dir / "dagster"

    @property
    def upload_look_s(self) -> int:
        """Seconds between the upload sensor's looks: listing a bucket costs, a directory or a queue does not."""
        return 30 if self.object_store_url.startswith("s3:") and not self.upload_queue else 5

    @property
    def object_store_url(self) -> str:
        if self.store_url:
            return self.store_url
        if self.aws_storage_bucket_name:
            return f"s3://{self.aws_storage_bucket_name}"
        return (self.home_dir / "store").as_uri()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL with the driver named; SQLite under the home unless `DATABASE_URL` says otherwise."""
        url = self.database_url_raw.get_secret_value()
        if not url:
            return f"sqlite:///{self.home_dir / 'state' / 'state.db'}"
        for prefix in ("postgresql://", "postgres://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        return url

    @property
    def media_keys(self) -> tuple[str, ...]:
        """What links to media are signed with, the newest first; none where they are not signed."""
        return tuple(
            filter(None, (key.strip() for key in self.media_signing_keys.get_secret_value().split(",")))
        )

    @property
    def timezone(self) -> ZoneInfo:
        return ZoneInfo(self.business_timezone)

    def model_budget_microusd(self, account: str | None = None) -> int:
        """What answers of models may cost in a day, in millionths of a US dollar: an account's, or everybody's."""
        own = self.account_model_budgets.get(account or "", self.account_model_budget)
        return int((self.model_budget if account is None else own) * 1_000_000)

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def ui_url(self) -> str:
        """Address of the Dagster UI, without a slash at its end."""
        return self.ui_address.rstrip("/") or f"http://127.0.0.1:{self.ui_port}"

    @property
    def gateway_url(self) -> str:
        if self.production_domain:
            return f"https://{self.production_domain}"
        return f"http://127.0.0.1:{self.gateway_port}"

    def webhook_secrets(self, vendor: str, name: str) -> tuple[str, ...]:
        """What messages of a vendor may be signed with: the secret of this field, or several with commas between while
        one is replaced. Unset it is a fixed stand-in where the vendor is the sandbox on this machine, and none else."""
        secret: SecretStr | None = getattr(self, name)
        if secret is not None:
            return tuple(filter(None, (part.strip() for part in secret.get_secret_value().split(","))))
        is_local = not self.production_domain and vendor in VENDORS
        if is_local and self.endpoint(vendor).mode == "sandbox":
            return (self.endpoint(vendor).secret(name),)
        return ()

    def postback_tokens_of(self, network: str) -> tuple[str, ...]:
        """The tokens an affiliate network may call with; none for one that is not set up."""
        return tuple(token for name, token in _tokens(self.postback_tokens) if name == network)

    def endpoint(self, vendor: str) -> VendorEndpoint:
        """Where this vendor's client talks to, and why. See `VENDORS` for the names."""
        spec = VENDORS[vendor]
        secrets = {name: getattr(self, name) for name in spec.key_fields if getattr(self, name) is not None}
        missing = [name.upper() for name in spec.key_fields if name not in secrets]
        override = getattr(self, spec.base_url_field)
        if secrets and missing:
            raise SettingsError(
                f"{vendor} is half configured: {', '.join(missing)} not set.",
                code="vendor_half_configured",
                remedy=f"Set {', '.join(missing)} too, or unset the others to stay on the sandbox.",
            )
        if override:
            return VendorEndpoint(vendor, "live", override, f"{spec.base_url_field.upper()} is set", secrets)
        if secrets:
            url = spec.live_url.replace("{location}", self.vertex_location)
            if "{shop}" in url:
                url = url.format(shop=secrets["shopify_shop_url"].get_secret_value().removeprefix("https://"))
            return VendorEndpoint(
                vendor, "live", url, f"{' and '.join(n.upper() for n in secrets)} set", secrets
            )
        return VendorEndpoint(
            vendor, "sandbox", f"{self.sandbox_url}/{spec.sandbox_path}/", f"{' and '.join(missing)} not set"
        )


def load_settings() -> Settings:
    """Read the environment and `.env` once, now. Raises SettingsError naming each bad variable, never its secret."""
    try:
        return Settings()
    except UnicodeDecodeError as error:
        raise SettingsError(
            f".env is not UTF-8 text (byte {error.start}).", code="bad_setting", remedy="Save it as UTF-8."
        ) from None
    except ValidationError as error:
        problems = []
        for item in error.errors(include_url=False, include_context=False):
            variable = str(item["loc"][0]).upper() if item["loc"] else "settings"
            fields = Settings.model_fields
            for name, info in fields.items():
                if variable in (name.upper(), str(info.alias or "").upper()):
                    variable = (info.alias or name).upper()
            secret = any(word in variable for word in ("SECRET", "TOKEN", "KEY", "URL", "STORE"))
            shown = "its value" if secret else f"the value {item['input']!r}"
            problems.append(
                f"{variable}: {shown} cannot be used ({item['msg'].removeprefix('Value error, ')})"
            )
        raise SettingsError(
            "; ".join(problems) + ".",
            code="bad_setting",
            remedy="Correct it in the environment or in .env, or unset it to use the default.",
        ) from None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Process-wide settings, whose secrets no log of this process then shows.

    Tests that change the environment call `get_settings.cache_clear()`.
    """
    settings = load_settings()
    guard_process(secrets_of(settings))
    return settings
