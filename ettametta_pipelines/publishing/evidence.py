"""What stands behind an order before it is posted: by what rights, and what the channel has posted like it.

Gathered by the publication assets right before the upload, and by whoever shows a post to be approved; words and
tables for people are made here from `rights.py` and `posted_before.py`.
"""

from dataclasses import dataclass
from pathlib import Path

from ettametta_pipelines.previews import cell, markdown_table
from ettametta_pipelines.publishing.delivery import Order, Workshop
from ettametta_pipelines.publishing.posted_before import LookBack, look_back
from ettametta_pipelines.publishing.rights import RightsRecord, Row, keep_rights, rights_of

RIGHTS_COLUMNS = ("input", "what", "right", "credit", "licence", "evidence", "declared by", "standing")


@dataclass(frozen=True)
class Evidence:
    """Rights records and the look back of one order."""

    records: tuple[RightsRecord, ...]
    look_back: LookBack

    @property
    def rights_table(self) -> str:
        """Markdown, a row for each input."""
        return markdown_table(
            RIGHTS_COLUMNS,
            (
                [
                    cell(text, limit=48)
                    for text in (
                        one.kind, one.name, one.right, one.credit, one.licence, one.evidence, one.declared_by,
                        one.standing,
                    )
                ]
                for one in self.records
            ),
        )  # fmt: skip


def gather(workshop: Workshop, order: Order, rendition: Row, source: Row, *, scratch: Path) -> Evidence:
    """The evidence for an order made of these rows; its rights are kept with what is about to be posted."""
    platform, file = order.post.platform, order.rendition
    records = rights_of(rendition, source)
    keep_rights(workshop.db, platform, file.source_id, file.sha256, records)
    seen = look_back(
        workshop.db, workshop.store, platform, order.account, file.source_id, file.object_key, scratch=scratch
    )
    return Evidence(records, seen)
