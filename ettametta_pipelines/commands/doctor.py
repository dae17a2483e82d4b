"""`ettametta doctor`: one row per integration, live or sandbox, and whether what is configured answers.

The probe of a live integration is one cheap, read-only call through the same client the pipeline uses; nothing
is written and no quota bucket is touched beyond that call.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ettametta_pipelines.commands.going_live import steps
from ettametta_pipelines.failures import NeedsPersonError, PipelineError
from ettametta_pipelines.settings import VENDORS, Settings

if TYPE_CHECKING:
    from ettametta_pipelines.publishing.tokens import RefreshingApp

# Long enough for a cheap question; answers of models may take longer.
PROBE_TIMEOUT_S = 30.0

Standing = Literal["live", "sandbox", "missing", "broken"]


@dataclass(frozen=True)
class IntegrationRow:
    """One integration. `why` says what decides the standing; `remedy` is empty unless something is wrong.

    `next_steps` are what makes it live, in order; empty where it is.
    """

    integration: str
    purpose: str
    standing: Standing
    why: str
    remedy: str = ""
    next_steps: tuple[str, ...] = ()

    @property
    def in_short(self) -> str:
        """What the table says. Of the sandbox, only which keys end it: where it is need not be read twelve times."""
        if self.standing == "sandbox":
            return ", ".join(name.upper() for name in VENDORS[self.integration].key_fields)
        return f"{self.why} {self.remedy}".strip()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class PartRow:
    """A part of this machine every mode needs: store, state database, ffmpeg."""

    part: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings) -> tuple[list[IntegrationRow], list[PartRow]]:
    """Examine every integration and local part. Never raises for what it finds; that is its result."""
    integrations = [_examine_vendor(settings, name) for name in VENDORS]
    parts = [_examine_part(name, check, settings) for name, check in PARTS.items()]
    return integrations, parts


def is_healthy(integrations: list[IntegrationRow], parts: list[PartRow]) -> bool:
    return all(row.standing in ("live", "sandbox") for row in integrations) and all(part.ok for part in parts)


def _examine_vendor(settings: Settings, name: str) -> IntegrationRow:
    purpose = VENDORS[name].purpose
    try:
        endpoint = settings.endpoint(name)
    except PipelineError as error:
        return IntegrationRow(
            name, purpose, "missing", error.message, error.remedy, tuple(steps(settings, name))
        )
    if endpoint.mode == "sandbox":
        instead = VENDORS[name].stand_in or f"the local sandbox stands in at {endpoint.base_url}"
        return IntegrationRow(
            name, purpose, "sandbox", f"{endpoint.why}; {instead}", "", tuple(steps(settings, name))
        )
    try:
        answer = PROBES[name](settings)
    except PipelineError as error:
        return IntegrationRow(
            name, purpose, "broken", error.message, error.remedy or "Check key and network."
        )
    return IntegrationRow(name, purpose, "live", f"{endpoint.why}; {answer}")


def _probe_youtube(settings: Settings) -> str:
    from ettametta_pipelines.vendors.youtube import YouTubeData

    YouTubeData(settings.endpoint("youtube")).batch_get_stats(["dQw4w9WgXcQ"])
    return "answers"


def _probe_google(settings: Settings) -> str:
    from ettametta_pipelines.orchestration.resources import YouTubeResource

    return _probe_client_credentials(YouTubeResource().app())


def _probe_tiktok(settings: Settings) -> str:
    from ettametta_pipelines.orchestration.resources import TikTokResource

    return _probe_client_credentials(TikTokResource().app())


def _probe_client_credentials(app: "RefreshingApp") -> str:
    """Refresh with a token nobody holds: a vendor that knows our client says so, one that does not refuses us."""
    from ettametta_pipelines.publishing.tokens import DEAD_GRANT_CODES

    try:
        app.refresh("ettametta-doctor")
    except PipelineError as error:
        if error.code not in DEAD_GRANT_CODES:
            raise
    return "knows this client; channels are connected with `ettametta connect`"


def _probe_gemini(settings: Settings) -> str:
    from ettametta_pipelines.vendors.judges import gemini_client

    client = gemini_client(settings, timeout_s=PROBE_TIMEOUT_S)
    client.count_tokens("ping")
    return f"answers for {client.model}"


def _probe_openai(settings: Settings) -> str:
    return _probe_chat(settings, "openai")


def _probe_groq(settings: Settings) -> str:
    return _probe_chat(settings, "groq")


def _probe_chat(settings: Settings, provider: Literal["openai", "groq"]) -> str:
    from ettametta_pipelines.vendors.judges import chat_client

    client = chat_client(settings, provider, timeout_s=PROBE_TIMEOUT_S)
    client.check_model()
    return f"answers for {client.model}"


def _probe_stripe(settings: Settings) -> str:
    from datetime import timedelta

    from ettametta_pipelines.clock import utc_now
    from ettametta_pipelines.vendors.stripe import StripeClient

    now = utc_now()
    next(
        iter(StripeClient(settings.endpoint("stripe")).balance_transactions(now - timedelta(minutes=1), now)),
        None,
    )
    return "answers"


def _probe_shopify(settings: Settings) -> str:
    from ettametta_pipelines.vendors.shopify import ShopifyClient

    shop = ShopifyClient(settings.endpoint("shopify")).shop()
    return f"answers as {shop.name}"


def _probe_pexels(settings: Settings) -> str:
    from ettametta_pipelines.vendors.pexels import PexelsClient

    client = PexelsClient(settings.endpoint("pexels"))
    client.search_videos("ocean", per_page=1)
    left = client.rate_limit
    return "answers" + (f", {left.remaining} of {left.limit} requests left" if left else "")


def _probe_elevenlabs(settings: Settings) -> str:
    from ettametta_pipelines.vendors.elevenlabs import ElevenLabsClient

    ElevenLabsClient(settings.endpoint("elevenlabs"), settings.elevenlabs_model).check_model()
    return f"answers and has {settings.elevenlabs_model}"


def _probe_siliconflow(settings: Settings) -> str:
    from ettametta_pipelines.vendors.siliconflow import SiliconFlowClient

    SiliconFlowClient(settings.endpoint("siliconflow")).check_key()
    return "answers"


def _probe_vertex(settings: Settings) -> str:
    from ettametta_pipelines.vendors.google_video import check_credentials

    return f"signs in as {check_credentials()}; models are first asked when a clip is ordered"


PROBES: dict[str, Callable[[Settings], str]] = {
    "youtube": _probe_youtube,
    "google": _probe_google,
    "tiktok": _probe_tiktok,
    "gemini": _probe_gemini,
    "openai": _probe_openai,
    "groq": _probe_groq,
    "stripe": _probe_stripe,
    "shopify": _probe_shopify,
    "pexels": _probe_pexels,
    "elevenlabs": _probe_elevenlabs,
    "siliconflow": _probe_siliconflow,
    "vertex": _probe_vertex,
}


def _examine_part(name: str, check: Callable[[Settings], str], settings: Settings) -> PartRow:
    try:
        return PartRow(name, True, check(settings))
    except PipelineError as error:
        return PartRow(name, False, str(error))


def _check_store(settings: Settings) -> str:
    from ettametta_pipelines.storage.objects import open_store

    store = open_store(settings)
    store.check_reachable()
    return store.url


def _check_upload_queue(settings: Settings) -> str:
    from ettametta_pipelines.storage.notifications import open_queue

    queue = open_queue(settings)
    if queue is None:
        return "none configured: the upload sensor lists the last days' folders"
    found = queue.standing()
    dead = "" if found.has_dead_letters else "; it has no dead-letter queue"
    return f"{queue.url}: {found.waiting} messages wait, {found.in_flight} are being worked on{dead}"


def _check_state(settings: Settings) -> str:
    from ettametta_pipelines.state.session import open_state

    database = open_state(settings)
    with database.session(write=False) as session:
        now = database.now(session)
    return f"{database.dialect}, its clock says {now:%Y-%m-%d %H:%M} UTC"


def _check_ffmpeg(settings: Settings) -> str:
    from ettametta_pipelines.renders.ffmpeg import ffmpeg_build

    return ffmpeg_build()


def _check_confinement(settings: Settings) -> str:
    from ettametta_pipelines.confinement.walls import walls

    return walls().in_words


def _check_encoder(settings: Settings) -> str:
    from ettametta_pipelines.renders.encoders import HARDWARE, choose_encoder, why_not

    there = [encoder.name for encoder in HARDWARE if why_not(encoder) is None]
    return f"{choose_encoder(settings.encoder).name}; hardware here: {', '.join(there) or 'none'}"


def _check_local_voice(settings: Settings) -> str:
    from ettametta_pipelines.renders.local_voice import describe_voice

    try:
        return describe_voice().in_words
    except PipelineError as error:
        if settings.endpoint("elevenlabs").mode != "live":
            raise
        return f"{error.message} It is not needed: ElevenLabs speaks."


def _check_niches(settings: Settings) -> str:
    from ettametta_pipelines.discovery.niches import load_niches

    return ", ".join(load_niches(settings.niches_file))


def _check_channels(settings: Settings) -> str:
    from ettametta_pipelines.publishing.policy import load_channels

    named = load_channels(settings.channels_file).channels
    return (
        ", ".join(f"{account} on {platform}" for account, platform in named) or "none named: a person decides"
    )


def _check_tiers(settings: Settings) -> str:
    from ettametta_pipelines.billing.tiers import open_plans

    return ", ".join(open_plans(settings).table.tiers)


# Vendor -> what its messages are signed with. The render node is no vendor and has its secret or is not there.
WEBHOOK_SECRETS = {
    "stripe": "stripe_webhook_secret",
    "shopify": "shopify_client_secret",
    "tiktok": "tiktok_client_secret",
}


def _check_webhooks(settings: Settings) -> str:
    deaf = [
        f"{name.upper()} of {vendor}"
        for vendor, name in WEBHOOK_SECRETS.items()
        if settings.endpoint(vendor).mode == "live" and not settings.webhook_secrets(vendor, name)
    ]
    if not deaf:
        return f"taken at {settings.gateway_url}/webhooks/"
    said = f"{' and '.join(deaf)} not set, so its messages are refused and what they say is seen at night"
    if settings.production_domain:
        raise NeedsPersonError(
            f"{said}.", code="webhook_secret_missing", remedy="Set it; see docs/plans.md, Webhooks."
        )
    return said


def _check_operators(settings: Settings) -> str:
    named = settings.operator_accounts
    who = (
        f"{len(named)} operators named with their accounts"
        if named
        else "whoever is let in may do everything"
    )
    if not settings.production_domain:
        return f"the gateway's pages answer this machine alone; {who}"
    if not settings.proxy_user_header:
        return (
            "the gateway's pages refuse everybody until a proxy names people in ETTAMETTA_PROXY_USER_HEADER"
        )
    if not named:
        raise NeedsPersonError(
            f"ETTAMETTA_OPERATOR_ACCOUNTS is not set: whoever the proxy lets in at {settings.gateway_url} may see "
            "every account, connect channels, approve posts and change plans.",
            code="operators_unlimited",
            remedy="Set it to who may do what, as ann@example.com=acme beta,root@example.com=*; if everybody may do "
            "everything, say so with =* for each. See SECURITY.md.",
        )
    return who


def _check_encryption(settings: Settings) -> str:
    from ettametta_pipelines.publishing.tokens import open_envelope

    open_envelope(settings)
    return (
        "keys from ETTAMETTA_ENCRYPTION_KEYS" if settings.encryption_keys.get_secret_value() else "key file"
    )


def _check_alerts(settings: Settings) -> str:
    from ettametta_pipelines.operations.alert_check import describe

    return describe(settings)


PARTS: dict[str, Callable[[Settings], str]] = {
    "object store": _check_store,
    "upload queue": _check_upload_queue,
    "state database": _check_state,
    "ffmpeg": _check_ffmpeg,
    "confinement": _check_confinement,
    "video encoder": _check_encoder,
    "local voice": _check_local_voice,
    "niches": _check_niches,
    "channel rules": _check_channels,
    "tiers": _check_tiers,
    "webhooks": _check_webhooks,
    "operators": _check_operators,
    "encryption": _check_encryption,
    "alerts": _check_alerts,
}
