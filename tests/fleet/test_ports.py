"""The table of ports, its file, and what two services have both."""

import argparse
import hashlib
import re
import subprocess
from itertools import count
from pathlib import Path

import pytest
from copier import run_copy

from safe_migrations.errors import ConfigurationError
from safe_migrations.fleet import commands
from safe_migrations.fleet.ports import BEGIN, END, as_markdown, problems, replaced, update_file
from safe_migrations.fleet.services import find_services
from support import ROOT, bare_environment
from warm_python import warm_path


def service(root: Path, name: str, port: int | None = None, *, database: str = "", prefix: str = "") -> None:
    values = {"service": name, "database_port": port, "database_name": database, "env_prefix": prefix}
    lines = [f"{key} = {value}" for key, value in values.items() if value]
    root.joinpath(name).mkdir()
    root.joinpath(name, "alembic.ini").write_text("\n".join(["[safe_migrations]", *lines]))


def test_each_service_has_its_own(tmp_path: Path) -> None:
    service(tmp_path, "a", 15432, prefix="A")
    service(tmp_path, "b", 15433, prefix="B", database="a")  # another server
    service(tmp_path, "c", database="c")
    service(tmp_path, "d", database="d")
    service(tmp_path, "e")
    service(tmp_path, "f")
    assert problems(find_services(tmp_path)) == []


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({"port": 15432}, {"port": 15432}, ["15432", "database_port=15434"]),
        ({"database": "x"}, {"database": "x"}, ["database x", "database_name="]),
        ({"port": 1, "prefix": "SHOP"}, {"port": 2, "prefix": "shop"}, ["SHOP_", "env_prefix="]),
    ],
    ids=["port", "database of one server", "prefix"],
)
def test_what_two_services_have_both(
    tmp_path: Path, first: dict[str, str], second: dict[str, str], named: list[str]
) -> None:
    service(tmp_path, "one", **first)  # type: ignore[arg-type]
    service(tmp_path, "third", 15433, prefix="THIRD")
    service(tmp_path, "two", **second)  # type: ignore[arg-type]
    (problem,) = problems(find_services(tmp_path))
    assert all(name in problem for name in ["one", "two", *named])
    assert "third" not in problem


def test_a_service_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    service(tmp_path, "a", 1)
    tmp_path.joinpath("a", "alembic.ini").write_text("[safe_migrations]\ncolour = red\n")
    (problem,) = problems(find_services(tmp_path))
    assert problem.startswith("a: ")
    assert "colour" in problem


def test_a_free_port_below_the_last_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        service(tmp_path, name, 65535)
    (problem,) = problems(find_services(tmp_path))
    assert re.search(r"free is \d+ ", problem)


def run(*, check: bool, write: Path | None) -> int:
    return commands.ports(argparse.Namespace(check=check, write=write))


def test_the_table_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    service(tmp_path, "orders", 15432, prefix="ORDERS")
    file = tmp_path / "PORTS.md"
    assert run(check=True, write=file) == 1
    assert not file.exists()
    assert "safe-migrations fleet ports --write" in capsys.readouterr().err
    file.write_bytes(b"# Ports\r\n\r\nOurs.\r\n")
    assert run(check=False, write=file) == 0
    assert run(check=True, write=file) == 0
    text = file.read_bytes().decode()
    assert text.startswith("# Ports\r\n\r\nOurs.\r\n")
    assert "\n" not in text.replace("\r\n", "")
    assert all(value in text for value in ("orders", "15432", "ORDERS_DATABASE_URL", "ORDERS_DB_PASSWORD"))
    service(tmp_path, "payments", 15433, prefix="PAYMENTS")
    assert run(check=True, write=file) == 1
    assert file.read_bytes().decode() == text
    file.write_text(f"above\n{text[text.index(BEGIN) :]}below\n")
    assert run(check=False, write=file) == 0
    assert file.read_text().startswith("above\n")
    assert file.read_text().endswith("below\n")
    assert "payments" in file.read_text()
    service(tmp_path, "returns", 15433, prefix="RETURNS")
    assert run(check=False, write=file) == run(check=True, write=file) == 1  # current, with a double
    assert run(check=False, write=None) == 1
    answer = capsys.readouterr()
    assert "returns" in answer.out
    assert "payments, returns" in answer.err


def test_the_commands_of_the_how_to(tmp_path: Path) -> None:
    page = ROOT.joinpath("docs", "how-to", "monorepo.md").read_text().partition("## Ports")[2]
    script = page.partition("```sh\n")[2].partition("```")[0].replace(".venv/bin/", "")
    service(tmp_path, "orders", 15432)
    environment = bare_environment(PATH=warm_path())
    process = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "15432" in tmp_path.joinpath("README.md").read_text()


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"])
def test_markers_that_are_not_a_pair(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        replaced(text, "table")
    file = tmp_path / "file.md"
    file.write_text(text)
    service(tmp_path, "orders")
    with pytest.raises(ConfigurationError):
        update_file(file, find_services(tmp_path), only_check=False)
    assert file.read_text() == text


def test_names_are_text_in_markdown(tmp_path: Path) -> None:
    service(tmp_path, "a|<b>`", 15432, database="[x](y)|*z*")
    rows = as_markdown(find_services(tmp_path)).splitlines()
    assert [row.replace("\\|", "").count("|") for row in rows if row.startswith("|")] == [6, 6, 6]
    assert "\\<b\\>" in rows[4]
    assert "\\[x\\](y)\\|\\*z\\*" in rows[4]


def offered(name: str) -> int:
    return 15432 + int(hashlib.md5(name.encode()).hexdigest(), 16) % 1000  # noqa: S324


def test_copier_proposes_a_port_that_no_other_service_of_the_monorepo_has(template: Path, tmp_path: Path) -> None:
    services = tmp_path / "mono [1]" / "services"

    def copy(name: str, **answers: str) -> int:
        data = {"service_name": name, "layout": "monorepo", **answers}
        run_copy(str(template), services / name, data=data, defaults=True, quiet=True, unsafe=False, overwrite=True)
        (file,) = services.joinpath(name).glob(".database-port-*")
        (member,) = find_services(services, [name])
        assert member.service
        assert file.name == f".database-port-{member.service.database_port}"
        return member.service.database_port

    first = offered("orders")
    assert copy("payments", database_port=str(first)) == first
    old = next(name for name in map("old{}".format, count()) if offered(name) == first + 2)
    services.joinpath(old).mkdir()
    services.joinpath(old, "alembic.ini").touch()  # of template 2.0, without a file for its port
    assert copy("returns", database_port=str(first + 1)) == first + 1
    assert copy("orders") == first + 3
    assert copy("orders") == first + 3  # again, over itself
    assert problems(find_services(services)) == []
