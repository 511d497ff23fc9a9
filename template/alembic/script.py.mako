<%!
from safe_migrations.autogenerate import declarations, without_banner
%>\
"""${message.replace("\\", "\\\\").replace('"""', "'''")}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from collections.abc import Sequence

import sqlalchemy as sa
${imports if imports else ""}

from safe_migrations.operations import op

revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}

${declarations(config, up_revision)}


def upgrade() -> None:
    ${without_banner(upgrades)}


def downgrade() -> None:
    ${without_banner(downgrades)}
