"""What an operator has to do, at the vendor and here, before an integration is live: `ettametta doctor NAME`.

One function per integration, computed from the settings, so that redirect and webhook addresses can be copied as they
stand. Whether a vendor answers is `commands/doctor.py`'s business; this asks nobody anything.
"""

from collections.abc import Callable

from ettametta_pipelines.settings import Settings

# Kinds of events the endpoint at Stripe is registered for; `webhook_effects.EFFECTS` says what each leads to.
STRIPE_EVENTS = (
    "checkout.session.completed",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "invoice.paid",
    "invoice.payment_failed",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "payout.paid",
    "payout.failed",
)
SHOPIFY_SCOPES = ("read_shopify_payments_payouts", "read_orders", "read_products")
RESTART = "Restart what runs (Ctrl-C and `make dev`): keys are read at its start."


def steps(settings: Settings, integration: str) -> list[str]:
    """What is left to do for a vendor of `settings.VENDORS`, `s3` or `alerts`, in order; the first names the page."""
    return STEPS[integration](settings)


def into(*variables: str) -> str:
    """The sentence that says where keys go."""
    return f"Write {' and '.join(f'{name}=…' for name in variables)} into .env, or set the same in the environment."


def _youtube(settings: Settings) -> list[str]:
    return [
        "At console.cloud.google.com, in your project: APIs & Services, Library, enable YouTube Data API v3.",
        "Credentials, Create credentials, API key; restrict it to that API.",
        into("YOUTUBE_API_KEY"),
        RESTART,
    ]


def _google(settings: Settings) -> list[str]:
    return [
        "At console.cloud.google.com, in the project of YOUTUBE_API_KEY: enable YouTube Data API v3 and YouTube "
        "Analytics API.",
        f"OAuth consent screen: add the scopes {_scopes('youtube')}. Publish the app: while it is in testing, Google "
        "ends every consent after seven days.",
        "Credentials, Create credentials, OAuth client ID, Web application, with the authorised redirect URI "
        f"{settings.gateway_url}/oauth/youtube",
        into("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
        RESTART,
        f"Connect each channel at {settings.gateway_url}/accounts.",
    ]


def _tiktok(settings: Settings) -> list[str]:
    return [
        "At developers.tiktok.com, Manage apps: add the products Login Kit and Content Posting API, with direct post "
        "switched on.",
        f"Ask for the scopes {_scopes('tiktok')}.",
        f"Login Kit, redirect URI: {settings.gateway_url}/oauth/tiktok",
        f"Webhooks, callback URL: {_webhook(settings, 'tiktok')}",
        into("TIKTOK_CLIENT_KEY", "TIKTOK_CLIENT_SECRET"),
        RESTART,
        f"Connect each channel at {settings.gateway_url}/accounts. Until TikTok has audited the app, only SELF_ONLY "
        "posts are accepted.",
    ]


def _stripe(settings: Settings) -> list[str]:
    return [
        "At dashboard.stripe.com, Developers, API keys: the secret key, or a restricted one that reads balance "
        "transactions, payouts, charges, events and writes customers, checkout, portal and subscriptions.",
        "Product catalogue: one monthly price for each paid tier, with the lookup_key that billing/tiers.yaml names.",
        f"Webhooks, Add endpoint: {_webhook(settings, 'stripe')} with the events {', '.join(STRIPE_EVENTS)}.",
        into("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"),
        RESTART,
    ]


def _shopify(settings: Settings) -> list[str]:
    return [
        "In the store's admin, Settings, Apps and sales channels, Develop apps: create an app.",
        f"Admin API access scopes: {', '.join(SHOPIFY_SCOPES)}. Install it and reveal its token and API secret key.",
        into("SHOPIFY_SHOP_URL", "SHOPIFY_ACCESS_TOKEN", "SHOPIFY_CLIENT_SECRET")
        + " The shop is a host such as acme.myshopify.com.",
        RESTART,
        f"Webhooks need no registering: `webhook_messages` subscribes {_webhook(settings, 'shopify')} every night.",
    ]


def _key_at(page: str, *variables: str, then: str = "") -> Callable[[Settings], list[str]]:
    return lambda _settings: [page, into(*variables), *([then] if then else []), RESTART]


def _s3(settings: Settings) -> list[str]:
    return [
        "Create a bucket and an access key with the rights of docs/uploads.md, step 4.",
        "Write ETTAMETTA_STORE=s3://bucket/prefix, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into .env; "
        "AWS_ENDPOINT_URL too where it is not Amazon's.",
        RESTART,
        "What is in the directory store stays there: copy it into the bucket under the same names, or begin anew.",
    ]


def _alerts(settings: Settings) -> list[str]:
    return [
        "By mail: ETTAMETTA_ALERT_TO, ETTAMETTA_ALERT_FROM and ETTAMETTA_SMTP_URL=smtp://user:password@host:587.",
        "By chat: ETTAMETTA_ALERT_WEBHOOKS=ops=https://hooks.slack.com/services/…",
        RESTART,
        "Try it: ettametta alert-test",
    ]


def _scopes(platform: str) -> str:
    from ettametta_pipelines.publishing.connections import ASKED_SCOPES

    return ", ".join(
        scope.removeprefix("https://www.googleapis.com/auth/") for scope in ASKED_SCOPES[platform]
    )


def _webhook(settings: Settings, vendor: str) -> str:
    if settings.production_domain:
        return f"{settings.gateway_url}/webhooks/{vendor}"
    return f"https://DOMAIN/webhooks/{vendor} (set PRODUCTION_DOMAIN; without it everything is seen at night)"


STEPS: dict[str, Callable[[Settings], list[str]]] = {
    "youtube": _youtube,
    "google": _google,
    "tiktok": _tiktok,
    "gemini": _key_at("At aistudio.google.com, Get API key, in a project with billing.", "GEMINI_API_KEY"),
    "openai": _key_at("At platform.openai.com, API keys: a project key.", "OPENAI_API_KEY"),
    "groq": _key_at("At console.groq.com, API Keys: create one.", "GROQ_API_KEY"),
    "stripe": _stripe,
    "shopify": _shopify,
    "pexels": _key_at("At pexels.com/api: ask for a key.", "PEXELS_API_KEY"),
    "elevenlabs": _key_at(
        "At elevenlabs.io, Developers, API keys: a key that may use text to speech and read models.",
        "ELEVENLABS_API_KEY",
        then="ELEVENLABS_VOICE names another voice than the default.",
    ),
    "siliconflow": _key_at(
        "At cloud.siliconflow.com, API Keys: create one.",
        "SILICON_FLOW_API_KEY",
        then="For an account of the Chinese site also SILICON_FLOW_BASE_URL=https://api.siliconflow.cn/v1/.",
    ),
    "vertex": _key_at(
        "At console.cloud.google.com: enable Vertex AI; sign this machine in with `gcloud auth application-default "
        "login`, or let it run as a service account with the role Vertex AI User.",
        "VERTEX_PROJECT",
        then="VERTEX_LOCATION names another region than us-central1.",
    ),
    "s3": _s3,
    "alerts": _alerts,
}


def first_steps(settings: Settings) -> list[str]:
    """What somebody new does next on this installation: at most three lines, none when the line is under way."""
    from ettametta_pipelines.state.models import OAuthConnection, Upload
    from ettametta_pipelines.state.session import open_state

    with open_state(settings).session(write=False) as session:
        connected = session.query(OAuthConnection.id).first() is not None
        uploaded = session.query(Upload.id).first() is not None
    said = []
    if not connected:
        said.append(f"Connect a channel: make dev, then {settings.gateway_url}/accounts")
    if not uploaded:
        said.append("Upload a video: ettametta upload FILE --account NAME --niche travel --rights owned")
    return said
