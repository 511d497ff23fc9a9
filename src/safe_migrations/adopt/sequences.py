"""The source of sequences and identities."""

from typing import Any

from safe_migrations.adopt.names import Names
from safe_migrations.adopt.source import Source, call
from safe_migrations.adopt.types import Types

_RANGES = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


def write_sequence(row: Any, schema: str | None, types: Types, names: Names) -> str:
    """The line of a module that defines a sequence.

    Args:
        schema: None for the default one.
    """
    type_ = None if row.sequence_type == "bigint" else types.of(row.sequence_type, None).source
    metadata = Source("Base.metadata")
    sequence = call("Sequence", row.name, schema=schema, data_type=type_, **counting_options(row), metadata=metadata)
    return f"{names.of_constant(row.name)} = {sequence}"


def identity(row: Any) -> Source:
    """The `Identity` of a column."""
    return call("Identity", always=row.identity == "a", **counting_options(row))


def counting_options(row: Any) -> dict[str, Any]:
    """The options of a sequence that are not PostgreSQL's defaults.

    Args:
        row: of the sequence, or of the column that it belongs to.
    """
    largest = _RANGES[row.sequence_type]
    rising = row.increment > 0
    smallest_default, largest_default = (1, largest) if rising else (-largest - 1, -1)
    options = {
        "start": row.start if row.start != (row.minimum if rising else row.maximum) else None,
        "increment": row.increment if row.increment != 1 else None,
        "minvalue": row.minimum if row.minimum != smallest_default else None,
        "maxvalue": row.maximum if row.maximum != largest_default else None,
        "cache": row.cache if row.cache != 1 else None,
        "cycle": row.cycle,
    }
    return {name: value for name, value in options.items() if value is not None and value is not False}
