"""A channel is connected to one account, by the database's word and not only by the code's.

Where two accounts have the same one, from before this, the newest consent keeps it; the others have to connect again.

Revision 0013.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NAME = "uq_oauth_connections_platform_channel_id"
TABLE = "oauth_connections"
KNOWN = sa.text("channel_id <> ''")

GIVE_UP_OLDER = """
UPDATE oauth_connections
SET status = 'reauth_required', channel_id = '',
    reauth_reason = 'another account is connected to the same channel'
WHERE channel_id <> '' AND EXISTS (
    SELECT 1 FROM oauth_connections AS newer
    WHERE newer.platform = oauth_connections.platform AND newer.channel_id = oauth_connections.channel_id
      AND (newer.connected_at > oauth_connections.connected_at
           OR (newer.connected_at = oauth_connections.connected_at AND newer.id > oauth_connections.id))
)
"""


def upgrade() -> None:
    op.execute(GIVE_UP_OLDER)
    op.create_index(
        NAME, TABLE, ["platform", "channel_id"], unique=True, sqlite_where=KNOWN, postgresql_where=KNOWN
    )


def downgrade() -> None:
    op.drop_index(NAME, table_name=TABLE)
