"""Where a link may lead, how such an address is shown to people, and what is added to it when somebody follows it.

An address is stored as it was checked here and is never taken from a request, so the redirect cannot be bent. Nothing
here opens an address.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

import idna

from ettametta_pipelines.commerce.networks import Networks
from ettametta_pipelines.failures import PermanentError

MAX_URL_CHARS = 2000
# Reserved and unreserved characters of RFC 3986, and the sign of an escape. All else is escaped.
_KEPT = "!#$%&'()*+,/:;=?@[]~-._"
_NOT_IN_AN_ADDRESS = re.compile(
    r"[\x00-\x20\x7f-\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\\\"<>^`{|}]"
)


def checked_target(text: str) -> str:
    """The address as it is stored: http or https, its host in ASCII, everything else escaped.

    Raises PermanentError `bad_target` saying what is wrong: another scheme, a user name or password in it, control or
    invisible characters, a host that is none, more than 2000 characters.
    """
    url = text.strip(" ")
    if not url:
        raise _refused("it is empty")
    if len(url) > MAX_URL_CHARS:
        raise _refused(f"it has {len(url)} characters, more than {MAX_URL_CHARS}")
    if _NOT_IN_AN_ADDRESS.search(url):
        raise _refused("it contains a space, a control character or another that no address has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("its host or port cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise _refused("it does not begin with https:// or http://")
    if "@" in parts.netloc:
        raise _refused("it holds a user name or password before the host")
    host = _ascii_host(parts.hostname or "")
    where = f"[{host}]" if ":" in host else host
    rest = (quote(part, safe=_KEPT) for part in (parts.path or "/", parts.query, parts.fragment))
    checked = urlunsplit((parts.scheme, where + (f":{port}" if port else ""), *rest))
    if len(checked) > MAX_URL_CHARS:
        raise _refused(f"it has {len(checked)} characters when written out, more than {MAX_URL_CHARS}")
    return checked


def _ascii_host(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        ascii_host = idna.encode(host.rstrip("."), uts46=True).decode().lower()
    except idna.IDNAError:
        raise _refused(f"{host[:60]!r} is no host name") from None
    # What browsers read as a number is an address in disguise: 2130706433, 0x7f.1.
    last = ascii_host.rpartition(".")[2]
    if "." not in ascii_host or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):
        raise _refused(f"{host[:60]!r} is no public host name")
    return ascii_host


def _refused(problem: str) -> PermanentError:
    return PermanentError(
        f"The address cannot be used: {problem}.",
        code="bad_target",
        remedy="Copy the full address from the network or the shop, such as https://shop.example.com/item.",
    )


def host_of(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def shown_host(url: str) -> str:
    """The host for people: one that is written in other letters shows both, `xn--… (in letters: …)`.

    Letters of different scripts can look alike, so the letters alone never stand for a host.
    """
    host = host_of(url)
    if "xn--" not in host:
        return host
    try:
        return f"{host} (in letters: {idna.decode(host)})"
    except idna.IDNAError:
        return host


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """`url` with these query parameters instead of any of the same name; the others stay to the letter."""
    parts = urlsplit(url)
    kept = [
        piece
        for piece in parts.query.split("&")
        if piece and unquote(piece.partition("=")[0].replace("+", " ")) not in parameters
    ]
    query = "&".join([*kept, urlencode(parameters)])
    return urlunsplit(parts._replace(query=query))


def tracked(
    url: str,
    code: str,
    *,
    network: str,
    networks: Networks,
    is_shop: bool,
    platform: str | None,
    niche: str | None,
    source_id: str | None,
) -> str:
    """Where a follower of `code` is sent: to the own shop with UTM parameters, to a network with the code as sub-id.

    In the shop `utm_source` is the platform, `utm_medium` video, `utm_campaign` the niche, `utm_content` the source
    video; what a code is not about is left out. A network without a sub-id parameter gets the address as it is.
    """
    if is_shop or networks.is_own_shop(host_of(url)):
        utm = {"utm_source": platform, "utm_medium": "video", "utm_campaign": niche, "utm_content": source_id}
        return with_parameters(url, {name: value for name, value in utm.items() if value})
    known = networks.by_name.get(network)
    return with_parameters(url, {known.parameter: code}) if known and known.parameter else url
