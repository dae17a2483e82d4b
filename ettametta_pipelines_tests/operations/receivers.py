"""A mail server and a webhook of this machine, as tests of alerts see them. Ended with their handles."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from ettametta_pipelines.clock import utc_now


class MailDesk:
    """Takes mail; refuses recipients in `refused` for good and those in `later` for now."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.encrypted: list[bool] = []
        self.refused: set[str] = set()
        self.later: set[str] = set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refused:
            return "550 no such mailbox"
        if address in self.later:
            return "451 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
        self.encrypted.append(session.ssl is not None)
        return "250 taken"


class _OnAnyPort(Controller):
    """The controller knocks at the port it was told, which is not the one that 0 becomes."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        super()._trigger_server()


@contextmanager
def mail_server(desk: MailDesk, *, certificate: Path | None = None, password: str = "") -> Iterator[int]:
    """A mail server over `desk`; with a certificate it wants STARTTLS, with a password a login. Yields its port."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    def check(server: Any, session: Any, envelope: Any, mechanism: str, asked: Any) -> AuthResult:
        known = isinstance(asked, LoginPassword) and asked.password == password.encode()
        return AuthResult(success=known, handled=False)

    controller = _OnAnyPort(
        desk, hostname="127.0.0.1", port=0, tls_context=context, require_starttls=context is not None,
        authenticator=check if password else None, auth_required=bool(password), auth_require_tls=context is not None,
    )  # fmt: skip
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


class HookDesk:
    """What a webhook was sent; answers with `statuses`, the last one for ever."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.statuses = [200]


@contextmanager
def webhook(desk: HookDesk) -> Iterator[str]:
    """A webhook over `desk`; yields its address, whose path is a secret."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = desk.statuses.pop(0) if len(desk.statuses) > 1 else desk.statuses[0]
            if status < 300:
                desk.texts.append(body["text"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/services/T0/B0/hook-secret-93"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 with its key in one file, trusted by nobody."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = utc_now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(
        made.public_bytes(encoding) + key.private_bytes(encoding, form, serialization.NoEncryption())
    )
    return file
