"""A worker process of the token tests: asks once for a token, together with all others of its party."""

import hashlib
import os
import signal
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from ettametta_pipelines.publishing.tokens import Envelope, access_token
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.http import http_client
from ettametta_pipelines.vendors.oauth import TokenSet
from ettametta_pipelines.vendors.tiktok import TikTokApp

# Imported here, so that the server that forks the workers has it already.
http_client(VendorEndpoint("tiktok", "sandbox", "http://127.0.0.1:1/", "warm-up")).close()


class KilledApp(TikTokApp):
    """The real client in a process that is killed once the vendor has rotated the token."""

    def refresh(self, refresh_token: str) -> TokenSet:
        super().refresh(refresh_token)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")


def ask(
    database: str,
    vendor_url: str,
    key: str,
    account: str,
    killed: bool,
    party: Barrier,
    said: "SimpleQueue[str]",
) -> None:
    """Put the hash of the token into `said`; with `killed` nothing comes."""
    app = (KilledApp if killed else TikTokApp)(VendorEndpoint("tiktok", "sandbox", vendor_url, "test"))
    db = StateDatabase(database)
    party.wait(60)
    token = access_token(db, app, account, "tiktok", envelope=Envelope([key]))
    said.put(hashlib.sha256(token.encode()).hexdigest())
