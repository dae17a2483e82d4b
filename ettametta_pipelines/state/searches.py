"""Searches made and searches parked: how these rows are written and read. What they are for is said in discovery."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.state.models import ParkedSearch, SearchMade
from ettametta_pipelines.state.session import insert_if_absent

SearchKey = tuple[str, str, str]  # query, region, language; "" where none was asked for


def made_since(session: Session, day: date) -> Sequence[sa.Row[Any]]:
    """Searches of all niches paid on `day` or later, oldest first, with the columns of `searches_made`."""
    # Thousands of rows, read while others wait for the bucket: plain rows, no objects.
    columns = SearchMade.__table__.columns
    return session.execute(
        sa.select(*columns).where(SearchMade.quota_day >= day).order_by(SearchMade.id)
    ).all()


def record(session: Session, rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """Note searches made; their row ids in order."""
    made = [SearchMade(**row) for row in rows]
    session.add_all(made)
    session.flush()
    return [row.id for row in made]


def record_outliers(session: Session, outliers: Mapping[int, int]) -> None:
    """What became known of searches noted before, by row id."""
    for row_id, count in outliers.items():
        session.execute(sa.update(SearchMade).where(SearchMade.id == row_id).values(outliers=count))


def park(session: Session, niche: str, day: date, searches: Iterable[SearchKey], parked_on: date) -> None:
    """Keep searches of a partition for a later quota day; one that is parked already stays as it is."""
    for query, region, language in searches:
        row = {
            "niche": niche, "day": day, "query": query, "region": region, "language": language,
            "parked_on": parked_on,
        }  # fmt: skip
        insert_if_absent(session, ParkedSearch, row)


def parked(session: Session, niche: str | None = None) -> list[ParkedSearch]:
    """Parked searches of one niche or of all, oldest day first."""
    query = sa.select(ParkedSearch).order_by(ParkedSearch.day, ParkedSearch.id)
    return list(session.scalars(query if niche is None else query.where(ParkedSearch.niche == niche)))


def unpark(session: Session, niche: str, day: date, searches: Iterable[SearchKey] | None = None) -> None:
    """Forget parked searches of a partition: these, or all of them."""
    where = [ParkedSearch.niche == niche, ParkedSearch.day == day]
    if searches is not None:
        key = sa.tuple_(ParkedSearch.query, ParkedSearch.region, ParkedSearch.language)
        where.append(key.in_(list(searches)))
    session.execute(sa.delete(ParkedSearch).where(*where))
