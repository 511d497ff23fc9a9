"""What `run_env` adds to Alembic's autogenerate, imported when it is needed, so that an upgrade does not wait for it.

The entry point `alembic.plugins` of this distribution names this module.
See https://alembic.sqlalchemy.org/en/latest/api/plugins.html
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

from alembic.util import DispatchPriority, PriorityDispatchResult

if TYPE_CHECKING:  # Alembic imports this module while it is being imported itself
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import MigrationScript, UpgradeOps
    from alembic.runtime.migration import MigrationContext
    from alembic.runtime.plugins import Plugin

# Alembic's own; checks, compared by name; enums.
PLUGINS = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname", "safe_migrations.enums"]
PROGRESS_SCHEMA = "safe_migrations"
SCOPE = "safe_migrations_scope"  # among the options of `context.configure`

IncludeName = Callable[[str | None, str, Any], bool]
RenderItem = Callable[[str, Any, "AutogenContext"], str | Literal[False]]
Directives = Callable[["MigrationContext", Any, "list[MigrationScript]"], None]


def setup(plugin: "Plugin") -> None:
    """Register what prepares the models, and the comparison with PostgreSQL's descriptions; Alembic calls it."""
    first, last = DispatchPriority.FIRST, DispatchPriority.LAST
    descriptions, enums, domains = "description_comparison", "enum_comparison", "domain_comparison"
    add = plugin.add_autogenerate_comparator
    add(_prepare_models, "autogenerate", priority=first)
    add(_later(descriptions, "compare_schema"), "autogenerate", "descriptions", priority=first)
    add(_later(descriptions, "leave_default"), "column", "server_default", priority=first)
    add(_later(descriptions, "compare_table"), "table", "descriptions", priority=last)
    add(_later(descriptions, "add_sequences"), "autogenerate", "sequences", priority=last)
    add(_later(enums, "compare_enums"), "autogenerate", "enums", priority=last)
    add(_later(domains, "compare_domains"), "autogenerate", "domains", priority=last)
    add(_later(domains, "correct_columns"), "table", "domains", priority=first)
    add(_later(domains, "correct_column"), "column", "domains", priority=first)


def write_plan(own: Directives | None) -> Directives:
    """`process_revision_directives`: replace Alembic's revision with revisions that are safe to run."""

    def process(migration: "MigrationContext", revision: Any, directives: "list[MigrationScript]") -> None:
        from safe_migrations.autogenerate.directives import write_plan

        if own is not None:
            own(migration, revision, directives)
        write_plan(migration, directives)

    return process


class Scope:
    """What of the database autogenerate compares with the models.

    Attributes:
        schemas: the models' schemas, None for the default schema; None if the project decides (`include_schemas`).
        not_owned: the tables that belong to something else than the models, each by its schema, None for the default
            one, and its name; with what owns it.
        version_table: Alembic's, likewise; Alembic leaves it out only if no schema, or another schema, is configured.
        inherited: the columns, indexes and constraints that a table of the models has from its parent, and the
            constraints of the kinds that models can't have, each by schema, table and name.
    """

    def __init__(self, own: IncludeName | None) -> None:
        """Read nothing yet.

        Args:
            own: the project's `include_name`, which can exclude more.
        """
        self._own = own
        self.schemas: frozenset[str | None] | None = None
        self.not_owned: dict[tuple[str | None, str], str] = {}
        self.version_table: tuple[str | None, str] | None = None
        self.inherited: frozenset[tuple[str | None, str, str]] = frozenset()

    def include_name(self, name: str | None, kind: str, parents: Any) -> bool:
        """`include_name` of Alembic."""
        if kind == "schema":
            included = name != PROGRESS_SCHEMA and (self.schemas is None or name in self.schemas)
        elif kind == "table":
            key = parents["schema_name"], name
            included = key != self.version_table and key not in self.not_owned
        else:
            included = (parents["schema_name"], parents["table_name"], name) not in self.inherited
        return included and (self._own is None or self._own(name, kind, parents))


def render_item(own: RenderItem | None) -> RenderItem:
    """`render_item`: write a type as SQL, with the import that it needs."""

    def render(kind: str, item: Any, context: "AutogenContext") -> str | Literal[False]:
        from safe_migrations.autogenerate.rendering import render_sql_type

        rendered = own(kind, item, context) if own is not None else False
        return render_sql_type(item, context) if rendered is False and kind == "type" else rendered

    return render


def _prepare_models(context: "AutogenContext", _upgrade_ops: "UpgradeOps") -> PriorityDispatchResult:
    from safe_migrations.autogenerate.ownership import read_scope
    from safe_migrations.autogenerate.preparation import prepare

    prepare(context)
    read_scope(context)
    return PriorityDispatchResult.CONTINUE


def _later(module: str, name: str) -> Callable[..., PriorityDispatchResult]:
    """A comparator whose module is imported when autogenerate calls the comparator."""

    def compare(*arguments: Any) -> PriorityDispatchResult:
        comparator = getattr(import_module(f"safe_migrations.autogenerate.{module}"), name)
        return cast(PriorityDispatchResult, comparator(*arguments))

    return compare
