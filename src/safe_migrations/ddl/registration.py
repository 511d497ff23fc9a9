"""Registering an operation with Alembic."""

from typing import Any, TypeVar

from alembic.operations import Operations

Operation = TypeVar("Operation")

FUNCTIONS: dict[type[Any], str] = {}  # the function of `op` for each operation


def register(class_: type[Operation]) -> type[Operation]:
    """Register a `MigrateOperation`: its only class method becomes a function of `op`, and `run` its implementation."""
    (name,) = (name for name, member in vars(class_).items() if isinstance(member, classmethod))
    FUNCTIONS[class_] = name
    Operations.implementation_for(class_)(lambda operations, operation: operation.run(operations))
    return Operations.register_operation(name)(class_)
