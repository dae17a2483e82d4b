"""How broadly a niche is searched: all its searches, or the first alone where its account's tier has basic discovery.

Called wherever searches are planned, so that every planner divides the same night. A niche without an account is the
house's own and searched in full.
"""

from ettametta_pipelines.billing.entitlements import allows
from ettametta_pipelines.billing.tiers import Feature, open_plans
from ettametta_pipelines.discovery.niches import Niche, load_niches
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase


def niches_by_plan(settings: Settings, db: StateDatabase) -> dict[str, Niche]:
    """The niches file's niches, each as broad as its account's tier lets it be."""
    plans, niches = open_plans(settings), load_niches(settings.niches_file)
    full = {
        account: allows(db, plans, account, Feature.FULL_DISCOVERY)
        for account in {niche.account for niche in niches.values() if niche.account}
    }
    return {slug: n if n.account is None or full[n.account] else basic(n) for slug, n in niches.items()}


def basic(niche: Niche) -> Niche:
    """The niche with its first query in its first region and language. Watched channels cost no search and stay."""
    first = {name: getattr(niche, name)[:1] for name in ("queries", "regions", "languages")}
    return niche.model_copy(update=first)


def breadth_in_words(niche: Niche, planned: Niche) -> str:
    if planned == niche:
        return "all of the niche's searches"
    return f"the first search alone: the tier of {niche.account} has basic discovery"
