"""Affiliate links as operators keep them: create, edit, retire, and a file of them at once.

Each change names who made it. Nothing is deleted: what was posted keeps leading somewhere. Called by the gateway's
pages; what an operator may see is `operators.py`'s business there.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.commerce.networks import Networks
from ettametta_pipelines.commerce.targets import checked_target
from ettametta_pipelines.csv_rows import NoCsv, csv_rows
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.link_codes import ALPHABET, CODE_CHARS
from ettametta_pipelines.state.models import AffiliateLink, AffiliateLinkCode, OAuthConnection
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.untrusted import plain_text

ACTIVE, RETIRED = "active", "retired"
MAX_LABEL_CHARS = 80
MAX_NOTE_CHARS = 200
MAX_NICHES = 20
MAX_IMPORT_BYTES = 256 * 1024
MAX_IMPORT_ROWS = 1000
REQUIRED = ("label", "network", "target_url")
OPTIONAL = ("niches", "commission_note", "fallback_url")


@dataclass(frozen=True)
class LinkFields:
    """What an operator says of a link, checked. Texts are one visible line each."""

    label: str
    network: str
    target_url: str
    niches: tuple[str, ...] = ()
    commission_note: str = ""
    fallback_url: str | None = None


@dataclass(frozen=True)
class ImportLine:
    """One line of a file and what importing does with it: create, update, nothing, or a problem."""

    line: int
    does: str
    label: str
    target_url: str
    problem: str = ""
    fields: LinkFields | None = None
    link_id: str | None = None


def new_code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARS))


def checked_fields(said: Mapping[str, str], networks: Networks, niches: Collection[str]) -> LinkFields:
    """What was written in a form or a line. Raises PermanentError `bad_link` or `bad_target` naming the field."""
    label = plain_text(said.get("label"), MAX_LABEL_CHARS + 1)
    if not label or len(label) > MAX_LABEL_CHARS:
        raise _bad("label", f"needs 1 to {MAX_LABEL_CHARS} characters")
    network = said.get("network", "").strip().lower()
    if network not in networks.by_name:
        raise _bad("network", f"is none of {', '.join(sorted(networks.by_name))}")
    note = plain_text(said.get("commission_note"), MAX_NOTE_CHARS + 1)
    if len(note) > MAX_NOTE_CHARS:
        raise _bad("commission note", f"has more than {MAX_NOTE_CHARS} characters")
    wanted = tuple(dict.fromkeys(said.get("niches", "").replace(",", " ").split()))
    strange = [plain_text(niche, 40) for niche in wanted if niche not in niches]
    if strange or len(wanted) > MAX_NICHES:
        raise _bad(
            "niches", f"names {', '.join(strange[:3]) or 'too many'}; there are {', '.join(sorted(niches))}"
        )
    fallback = said.get("fallback_url", "").strip()
    return LinkFields(
        label, network, checked_target(said.get("target_url", "")), wanted, note,
        checked_target(fallback) if fallback else None,
    )  # fmt: skip


def _bad(field: str, problem: str) -> PermanentError:
    return PermanentError(
        f"The {field} {problem}.", code="bad_link", remedy="Correct the field. Nothing was changed."
    )


def create(db: StateDatabase, account: str, fields: LinkFields, *, by: str) -> AffiliateLink:
    """A new link with a code of its own, for use outside of posts."""
    with db.session() as session:
        return _create(session, account, [fields], by, db.now(session))[0]


def _create(
    session: Session, account: str, wanted: Sequence[LinkFields], by: str, now: datetime
) -> list[AffiliateLink]:
    rows = [
        AffiliateLink(
            id=secrets.token_hex(8), account_id=account, status=ACTIVE, created_at=now, created_by=by,
            **_columns(fields),
        )
        for fields in wanted
    ]  # fmt: skip
    session.add_all(rows)
    session.flush()
    session.add_all(
        AffiliateLinkCode(code=new_code(), account_id=account, link_id=row.id, created_at=now) for row in rows
    )
    return rows


def _columns(fields: LinkFields) -> dict[str, Any]:
    return asdict(fields) | {"niches": list(fields.niches)}


def edit(db: StateDatabase, link_id: str, fields: LinkFields, *, by: str) -> AffiliateLink:
    """Other words or target; posts that are out lead there, too. Raises `unknown_link`, `link_retired`."""
    with db.session() as session:
        row = _row(session, link_id)
        if row.status != ACTIVE:
            raise PermanentError(
                f"The link {row.label} is retired.",
                code="link_retired",
                remedy="Create a new link instead. Nothing was changed.",
            )
        _edit(row, fields, by, db.now(session))
    return row


def _edit(row: AffiliateLink, fields: LinkFields, by: str, now: Any) -> None:
    for name, value in _columns(fields).items():
        setattr(row, name, value)
    row.edited_at, row.edited_by = now, by


def retire(db: StateDatabase, link_id: str, *, by: str) -> AffiliateLink:
    """Offer it no more; its codes lead to its fallback, or to a page that says that it has ended."""
    with db.session() as session:
        row = _row(session, link_id)
        if row.status == ACTIVE:
            row.status, row.retired_at, row.retired_by = RETIRED, db.now(session), by
    return row


def find(db: StateDatabase, link_id: str) -> AffiliateLink:
    """Raises PermanentError `unknown_link`."""
    with db.session(write=False) as session:
        return _row(session, link_id)


def _row(session: Session, link_id: str) -> AffiliateLink:
    row = session.get(AffiliateLink, link_id)
    if row is None:
        raise unknown_link(link_id)
    return row


def unknown_link(link_id: str) -> PermanentError:
    return PermanentError(
        f"There is no link {plain_text(link_id, 40)!r}.",
        code="unknown_link",
        remedy="The page Links lists them.",
    )


def listed(db: StateDatabase, accounts: Collection[str] | None = None) -> list[AffiliateLink]:
    """Links of these accounts (of all for None), active ones first, by account and label."""
    query = sa.select(AffiliateLink).order_by(
        AffiliateLink.status, AffiliateLink.account_id, AffiliateLink.label, AffiliateLink.id
    )
    if accounts is not None:
        query = query.where(AffiliateLink.account_id.in_(sorted(accounts)))
    with db.session(write=False) as session:
        return list(session.scalars(query))


def accounts(db: StateDatabase) -> list[str]:
    """Accounts that have a channel or a link."""
    query = sa.union(sa.select(OAuthConnection.account_id), sa.select(AffiliateLink.account_id))
    with db.session(write=False) as session:
        return sorted(session.scalars(query))


def codes_of(db: StateDatabase, link_ids: Collection[str]) -> dict[str, list[AffiliateLinkCode]]:
    """Codes by link, the one for use outside of posts first."""
    found: dict[str, list[AffiliateLinkCode]] = {link_id: [] for link_id in link_ids}
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(AffiliateLinkCode)
            .where(AffiliateLinkCode.link_id.in_(sorted(link_ids)))
            .order_by(AffiliateLinkCode.created_at, AffiliateLinkCode.code)
        )
        for row in rows:
            found[row.link_id or ""].append(row)
    return {link: sorted(codes, key=lambda code: code.source_id is not None) for link, codes in found.items()}


def plan_import(
    db: StateDatabase, account: str, data: bytes, networks: Networks, niches: Collection[str]
) -> list[ImportLine]:
    """What importing this file would do, line by line. The file is UTF-8 CSV with a header of `REQUIRED`, `OPTIONAL`.

    A line with the target of an active link of the account changes that link. Raises PermanentError `bad_import` for
    what is no such file at all.
    """
    known = {row.target_url: row for row in listed(db, [account]) if row.status == ACTIVE}
    seen: dict[str, int] = {}
    planned: list[ImportLine] = []
    for line, row in _lines(data):
        said = row or {}
        label = plain_text(said.get("label"), MAX_LABEL_CHARS)
        target = plain_text(said.get("target_url"), 200)
        try:
            if row is None:
                raise _bad("line", "has another number of fields than the header")
            fields = checked_fields(said, networks, niches)
            if fields.target_url in seen:
                raise _bad("target", f"stands in line {seen[fields.target_url]} already")
        except PipelineError as error:
            planned.append(ImportLine(line, "problem", label, target, error.message))
            continue
        seen[fields.target_url] = line
        link = known.get(fields.target_url)
        does = "create" if link is None else "nothing" if _says(link) == fields else "update"
        planned.append(
            ImportLine(line, does, label, fields.target_url, "", fields, link.id if link else None)
        )
    return planned


def _says(row: AffiliateLink) -> LinkFields:
    return LinkFields(
        row.label, row.network, row.target_url, tuple(row.niches), row.commission_note, row.fallback_url
    )


def carry_out(db: StateDatabase, account: str, planned: Sequence[ImportLine], *, by: str) -> None:
    """Do what was planned, all of it in one transaction. Raises PermanentError `bad_import` where a line is bad."""
    bad = [line.line for line in planned if line.fields is None]
    if bad:
        raise _bad_import(f"line {', '.join(map(str, bad[:10]))} cannot be imported")
    with db.session() as session:
        now = db.now(session)
        changed = {line.link_id: line.fields for line in planned if line.does == "update" and line.fields}
        for row in session.scalars(sa.select(AffiliateLink).where(AffiliateLink.id.in_(changed))):
            _edit(row, changed[row.id], by, now)
        made = [line.fields for line in planned if line.does == "create" and line.fields]
        _create(session, account, made, by, now)


def _lines(data: bytes) -> Iterator[tuple[int, dict[str, str] | None]]:
    if len(data) > MAX_IMPORT_BYTES:
        raise _bad_import(f"it has more than {MAX_IMPORT_BYTES // 1024} KiB")
    try:
        for number, row in enumerate(csv_rows(data, REQUIRED, OPTIONAL)):
            if number >= MAX_IMPORT_ROWS:
                raise _bad_import(f"it has more than {MAX_IMPORT_ROWS} lines")
            yield row
    except NoCsv as error:
        raise _bad_import(str(error)) from None


def _bad_import(problem: str) -> PermanentError:
    return PermanentError(
        f"The file cannot be imported: {problem}.",
        code="bad_import",
        remedy="Correct the file and import it again. Nothing was imported.",
    )
