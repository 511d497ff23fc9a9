"""The modes of PostgreSQL's locks on tables.

See https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""

import re

MODES = (  # from the weakest
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)


def sql_name(mode: str) -> str:
    """A lock mode as in SQL, such as SHARE ROW EXCLUSIVE."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", mode.removesuffix("Lock")).upper()
