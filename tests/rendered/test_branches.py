"""A service in git: the file HEAD, and branches that each add a revision."""

import os
from pathlib import Path

from sqlalchemy import URL

from support import Render, Service, ToHead, fetch, tables
from warm_python import warm_path

IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
REBASE = ("safe-migrations", "rebase")


def put_into_git(service: Service, root: Path) -> None:
    service.environment |= IDENTITY | {"GIT_CONFIG_GLOBAL": os.devnull}
    service.succeed("git", "init", "--quiet", "--initial-branch=main", str(root))
    commit(service)


def commit(service: Service) -> None:
    service.succeed("git", "add", "--all")
    service.succeed("git", "commit", "--quiet", "--message", "work")


def head(service: Service) -> str:
    return (service.versions / "HEAD").read_text()


def heads(service: Service) -> list[str]:
    return [line.split()[0] for line in service.succeed("alembic", "heads").splitlines()]


def revise(service: Service, slug: str) -> str:
    """Write and commit a revision that adds a table."""
    service.succeed("alembic", "revision", "-m", slug)
    path = service.versions / service.revisions()[-1]
    up, down = f'    op.execute("CREATE TABLE {slug} ()")', f'    op.drop_table("{slug}")'
    path.write_text(path.read_text().replace("    pass", up, 1).replace("    pass", down))
    commit(service)
    return head(service).strip()


def meet(service: Service, mine: str, theirs: str) -> tuple[str, str]:
    """Two branches that each add a revision, in the middle of their merge; the ids of both."""
    service.succeed("git", "checkout", "--quiet", "-b", "mine")
    revisions = [revise(service, mine)]
    service.succeed("git", "checkout", "--quiet", "main")
    revisions.append(revise(service, theirs))
    service.succeed("git", "checkout", "--quiet", "mine")
    process = service.run("git", "merge", "main")
    assert process.returncode == 1, "git shows it, before a database does"
    assert process.stdout.count("CONFLICT") == 1
    assert "alembic/versions/HEAD" in process.stdout
    return revisions[0], revisions[1]


def test_every_command_that_writes_a_revision_keeps_head(service: Service, to_head: ToHead) -> None:
    (first,) = heads(service)
    assert head(service) == f"{first}\n", "the baseline's"
    to_head()
    models = service.folder / "models_db.py"
    models.write_text(models.read_text() + "    note: Mapped[str | None]\n")
    service.succeed("alembic", "revision", "--autogenerate", "-m", "add a note to items")
    assert [head(service).strip()] == heads(service)
    service.succeed("alembic", "revision", "--splice", "--head", first, "--rev-id", "own_id", "-m", "other branch")
    assert head(service) == "own_id\n"
    service.folder.joinpath("ruff.toml").write_text("nonsense = 1\n")
    assert service.run("alembic", "merge", "-m", "join", "heads").returncode != 0, "it is written, but not formatted"
    assert [head(service).strip()] == heads(service)


def test_from_conflict_to_one_line(service: Service, database: URL, to_head: ToHead) -> None:
    put_into_git(service, service.folder)
    to_head()
    ((base,),) = fetch(database, "SELECT version_num FROM alembic_version")
    mine, _ = meet(service, "mine", "theirs")

    # The branch was tried before, in development.
    fetch(database, "CREATE TABLE mine ()")
    fetch(database, "UPDATE alembic_version SET version_num = :mine", mine=mine)
    before = service.revisions()
    sentence = service.fail(*REBASE)
    for name in (repr(database.database), f"127.0.0.1:{database.port}", "0002 mine"):
        assert name in sentence
    assert service.revisions() == before
    assert "<<<<<<<" in head(service)

    assert "alembic merge -m 'merge heads' heads" in sentence, "one way out"
    service.succeed("alembic", "merge", "-m", "merge heads", "heads")
    assert [head(service).strip()] == heads(service)
    service.succeed("alembic", "upgrade", "head")
    assert tables(database) == {"alembic_version", "item", "mine", "theirs"}

    assert f"alembic downgrade {base} && safe-migrations rebase" in sentence, "the other one"
    service.succeed("alembic", "downgrade", base)
    (service.versions / service.revisions()[-1]).unlink()
    output = service.succeed(*REBASE)
    assert f"{before[2]}:\n  {before[1]} -> {before[1][:9]}0003_mine.py\n" in output
    assert head(service) == f"{mine}\n"
    service.succeed("alembic", "upgrade", "head")
    assert tables(database) == {"alembic_version", "item", "mine", "theirs"}
    commit(service)
    assert "nothing to move" in service.succeed(*REBASE)


def test_without_a_database_it_says_so(service: Service) -> None:
    put_into_git(service, service.folder)
    meet(service, "mine", "theirs")
    service.environment["ORDERS_DATABASE_URL"] = "no URL"
    output = service.succeed(*REBASE)
    assert "ORDERS_DATABASE_URL is not a URL" in output
    assert "0003_mine.py" in output


def test_hook_of_a_commit(render: Render, tmp_path: Path) -> None:
    """Git sets GIT_DIR and more for it; what else the hooks catch is in test_delivery."""
    root = tmp_path / "root"
    service = render(root / "services" / "orders", layout="monorepo")
    service.environment |= {
        "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"),
        "SKIP": "conflict-markers,ruff,mypy,revisions",
    }
    put_into_git(service, root)
    service.succeed("pre-commit", "install", "--config", "services/orders/.pre-commit-config.yaml", folder=root)
    service.succeed("git", "checkout", "--quiet", "-b", "mine")
    (baseline,) = service.versions.glob("*_0001_baseline.py")
    text, newest = baseline.read_text(), head(service)
    baseline.write_text(text.replace('op.drop_table("item")', 'op.drop_table("items")'))
    (service.versions / "HEAD").write_text("other\n")
    service.succeed("git", "add", "--all")
    process = service.run("git", "commit", "--message", "refused", path=warm_path())
    assert process.returncode == 1, process.stderr
    assert "head-file" in process.stderr
    assert "edited-revision" in process.stderr
    baseline.write_text(text.replace('"""baseline', '"""The baseline'))
    (service.versions / "HEAD").write_text(newest)
    service.succeed("git", "add", "--all")
    service.succeed("git", "commit", "--message", "accepted", path=warm_path())
