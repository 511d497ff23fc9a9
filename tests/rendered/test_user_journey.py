"""What a new user does, with nothing of the test environment: the documentation's commands, as they stand there."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from releases import IDENTITY, NEXT, VERSIONS, Releases, clone_with_releases
from safe_migrations.dev.cluster import free_port
from support import ROOT, MypyCache, Service, as_text, bare_environment
from warm_python import warm_path

TEMPLATE = "https://git.example.com/platform/copier-postgres-service.git"

# What the tutorial has not, and needs the programs and the extras of the library. One PDM runs it all.
SCRIPTS = ["template-check", "migrate-revision 'add a column'", "migrate-rehearse"]
JOURNEY = f"""
sed -i.before 's/^    name: .*/&\\n    note: Mapped[str | None]/' models_db.py
rm -r models_db.py.before __pycache__
cat >> pyproject.toml <<END
[tool.pdm.scripts.journey]
composite = {json.dumps(SCRIPTS)}
END
PYTHONDONTWRITEBYTECODE=1 pdm run journey
ls alembic/versions/*_0002_add_a_column.py __pycache__/models_db.*.pyc
"""

# What an image has: the production dependencies alone migrate, and tell whether the database is ready.
IMAGE = """
PDM_USE_UV=true pdm sync --prod --clean
test -z "$(ls .venv/lib/python*/site-packages | grep --extended-regexp 'copier|embedded|mypy|pytest|ruff|squawk')"
PATH=$PWD/.venv/bin:$PATH
mkdir ../image
cp -R .env *.py *.ini *.toml *.lock alembic ../image
cd ../image
alembic upgrade head
safe-migrations state --quick
python -m database
"""

# PDM takes half a minute for a first installation, and as long for the update. PDM_OVERRIDE is not for uv.
INSTALL_FASTER = "cat ../locked.toml >> pyproject.toml && PDM_USE_UV=true pdm install"
# The tests' mypy checks the types, once the service is updated: it finds the libraries in its cache.
WITHOUT_MYPY = "echo '#!/bin/sh' > .venv/bin/mypy"


Run = Callable[..., str]


def commands(document: str) -> str:
    """The `sh` blocks of a document."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL))


def section(document: str, title: str) -> str:
    """The `sh` blocks of a section."""
    _, _, text = (ROOT / document).read_text().partition(f"## {title}\n")
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", text.partition("\n## ")[0], re.MULTILINE | re.DOTALL))


def new_service_of_readme() -> str:
    """The README's first block, with the answers that Copier offers."""
    return commands("README.md").partition("python3 -m pip install 'pdm[locked]' && ")[0].replace("copy", "copy -l", 1)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run scripts in one folder with a new Python environment, where the template's URL leads to a clone."""
    folder, clone = tmp_path / "user", tmp_path / "copier-postgres-service.git"
    clone_with_releases(clone)
    python = folder / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    packages = tomllib.loads((ROOT / "pdm.lock").read_text())["package"]  # not a dependency's next release
    locked = [f"{package['name']}=={package['version']}" for package in packages]
    (folder / "locked.txt").write_text("\n".join(locked))
    (folder / "locked.toml").write_text(f"\n[tool.uv]\nconstraint-dependencies = {json.dumps(locked)}\n")
    settings = folder / ".config" / "pdm" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("check_update = false\n")
    cache = Path.home() / ".cache"
    variables = bare_environment(
        PATH=os.pathsep.join([str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        HOME=str(folder),
        PIP_CACHE_DIR=str(cache / "pip"),
        PDM_CACHE_DIR=str(cache / "pdm"),
        PDM_OVERRIDE=str(folder / "locked.txt"),
        UV_CACHE_DIR=str(cache / "uv"),
        UV_SYSTEM_CERTS="true",
        MY_SERVICE_DB_PORT=str(free_port()),
        ORDERS_DB_PORT=str(free_port()),
        **IDENTITY,
        **url_of(clone),
    )
    python.with_name("uv").symlink_to(Path(sys.executable).with_name("uv"))

    def run(script: str, **more: str) -> str:
        # pip would take ten seconds.
        script = script.replace("python3 -m pip install", f"uv pip install --quiet --python={python}")
        command = ["bash", "-euo", "pipefail", "-c", script]
        process = subprocess.run(command, cwd=folder, env=variables | more, capture_output=True, text=True)
        assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-5000:]
        return process.stdout

    yield run
    end_servers(folder)


def url_of(clone: Path) -> dict[str, str]:
    """Lets git find the clone at the template's URL."""
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{clone}.insteadOf", "GIT_CONFIG_VALUE_0": TEMPLATE}


def end_servers(folder: Path) -> None:
    for file in folder.glob("**/postmaster.pid"):
        os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)  # an immediate shutdown: its data are deleted


def test_readme_with_its_update_then_a_change_then_an_image(
    run: Run, tmp_path: Path, mypy_cache: MypyCache, server: URL
) -> None:
    new = new_service_of_readme().replace("copy -l", f"copy -l --vcs-ref {VERSIONS[0]}")
    new = new.replace("pdm install", f"{INSTALL_FASTER} && {WITHOUT_MYPY}")
    run(f"{new}git add --all && git commit --quiet --message new")
    update = section("README.md", "Update a service")
    faster = {"PDM_USE_UV": "true", "MY_SERVICE_TEST_DATABASE_URL": as_text(server)}
    updated = run(f'cd my_service\n{update}\ntest -z "$(git status --porcelain)"', **faster)
    assert f"The template has released {NEXT}; this service has {VERSIONS[0]}." in updated
    assert "$ pdm install\n" in updated, "a dependency is new since then"
    assert re.search(r" \d+ passed(?s:.)+Everything passes", updated)
    with mypy_cache() as cache:
        Service(tmp_path / "user" / "my_service", "MY_SERVICE").succeed("mypy", "--cache-dir", cache, ".")

    output = run(f"cd my_service\n{JOURNEY}{IMAGE}")
    assert f"Up to date: the newest release of the template is {NEXT}." in output
    assert output.count("The database is at head") == 2, "of the image, both probes"


def test_tutorial(tmp_path: Path, releases: Releases, server: URL) -> None:
    """In the tests' own environment: the README's test installs one."""
    variables = {"ORDERS_DB_PORT": str(free_port()), "ORDERS_TEST_DATABASE_URL": as_text(server)}
    variables |= IDENTITY | url_of(releases.template)
    install, printed = re.compile(r"^(python3 -m pip|pdm) install.*\n", re.MULTILINE), ""
    tutorial, times = install.subn("", commands("docs/tutorial.md"))
    assert times == 2
    service = Service(tmp_path, "ORDERS", variables)
    try:
        printed = service.succeed("bash", "-euo", "pipefail", "-c", tutorial, path=warm_path())
    finally:
        end_servers(tmp_path)
    assert "op.add_column" in printed
    assert "No new upgrade operations detected." in printed
    assert " passed" in printed


@pytest.mark.thorough("test_monorepo has two services in an environment that is there already")
def test_monorepo_of_the_how_to_with_two_services(run: Run) -> None:
    history = "../../.venv/bin/alembic history\n"
    orders, all_services = commands("docs/how-to/monorepo.md").split(history)
    orders = orders.replace("copier copy", "copier copy --defaults")
    new, once, install = re.split(r"^(python3 -m venv .*\n.*\n)", orders, flags=re.MULTILINE)
    copy, use = (text.replace("orders", "payments") for text in (new, install))
    payments = f"{copy}cp services/orders/pdm.lock services/payments\n{use}"  # the same dependencies are locked once
    output = run(
        "python3 -m pip install copier 'pdm[locked]'\ngit init --quiet\n"
        + f"{new}{once}{install}{history}cd ../..\n{payments}{history}cd ../..\n"
        + "git add --all\ntest -z \"$(git ls-files | grep --extended-regexp '[.](python-version|pdm-python|venv/)')\"\n"
        + f"{all_services}\ncd services/orders\n"
    )
    assert output.count("(head), baseline") == 2
    assert len(re.findall(r" \d+ passed", output)) == 2
    assert output.count("Success: no issues found") == 2


@pytest.mark.thorough("all other tests run with the locked versions, whose lower bounds test_files compares")
def test_lowest_versions(run: Run) -> None:
    lowest = "unset PDM_OVERRIDE && pdm lock --strategy direct_minimal_versions && pdm install --frozen-lockfile"
    script = new_service_of_readme().replace("install copier", "install copier==9.17.0").replace("pdm install", lowest)
    output = run(f"{script}\ncopier --version\npdm list --csv{JOURNEY}pdm run test\npdm run format\npdm run typecheck")
    assert "copier 9.17.0" in output
    assert "SQLAlchemy,2.1.0," in output
    assert "Success: no issues found" in output
    assert " passed" in output


@pytest.mark.thorough(".ci/run runs the demo before the tests")
def test_demo_shows_both_sides() -> None:
    output = subprocess.run(
        [sys.executable, "scripts/demo.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    rows = [re.split(r"  +", line.strip()) for line in output.splitlines()]
    ours = {row[0].partition(": ")[2]: row[1] for row in rows if len(row) == 3}
    stock = {row[0].partition(": ")[2]: row[2] for row in rows if len(row) == 3}
    assert ours["succeed"] == "16 of 16"
    assert ours["repeated"] == "at head"
    assert stock["repeated"].startswith("failed")
    assert ours["failed writes"] == "0"
    assert int(stock["failed writes"]) > 0
    assert {"longest read", "longest write"} < ours.keys() == stock.keys()
    assert "\x1b" not in output, "no colour where there is no terminal"


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    _, _, two = commands("README.md").partition("migrate-upgrade\n\n")
    install, demo, test = re.split(r" && |\n", two.partition("\n\n")[0].strip())
    ran = (ROOT / ".ci" / "run").read_text().splitlines()
    assert ran.index(install) < ran.index(demo) < ran.index(test)
