"""How warm_parent.py is asked for a program; and the programs that stand in the place of the real ones, and ask."""

import array
import marshal
import os
import struct
import sys

# What `socket` consists of, which takes as long to import as Python to start.
from _socket import AF_UNIX, MSG_WAITALL, SCM_RIGHTS, SOL_SOCKET, socket

ADDRESS = "TEST_WARM_PYTHON"  # of the interpreter that forks, for all workers


def ask(address: str, request: dict[str, object], files: list[int]) -> socket:
    """Ask for a fork with these files as its standard input, output and error; it answers twice: process, status."""
    connection = socket(AF_UNIX)
    connection.connect(address)
    text = marshal.dumps(request)
    connection.sendmsg([struct.pack("i", len(text))], [(SOL_SOCKET, SCM_RIGHTS, array.array("i", files))])
    connection.sendall(text)
    return connection


def answer(connection: socket) -> int:
    """The next number."""
    (number,) = struct.unpack("i", connection.recv(4, MSG_WAITALL))
    return int(number)


def run_script(name: str, *arguments: str) -> int:
    """Run a script of the service's pyproject.toml, as PDM does, which takes half a second to start."""
    import re
    import shlex
    import subprocess
    import tomllib

    with open("pyproject.toml", "rb") as file:
        script = tomllib.load(file)["tool"]["pdm"]["scripts"][name]
    for command in script.get("composite", [script.get("cmd")]):
        text, count = re.subn(r"\{args:?(.*?)\}", lambda match: shlex.join(arguments) or match[1], command)
        if status := subprocess.run([*shlex.split(text), *([] if count else arguments)]).returncode:
            return status
    return 0


def main(address: str, python: str, *command: str) -> int:
    """Run a program in a fork; Python itself, unless it runs one of these modules, by the real one."""
    path: list[str] = []
    more: dict[str, str] = {}
    match command:
        case ("pdm", "run", name, *arguments):
            return run_script(name, *arguments)
        case ("pdm", *_):
            sys.exit(f"{' '.join(command)}: a test must not change an environment")
        case ("python", "-P", "-m", ("alembic" | "copier" | "safe_migrations") as module, *arguments):
            program = module.replace("_", "-")
        case ("python", "-P", "-m", "safe_migrations.fleet.worker" as module, *arguments):
            program = module
        case ("python", "-m", "pytest", *arguments):
            program, path = "pytest", [os.getcwd()]
        case ("python", "-u", program, code, *arguments):  # a worker of pytest, which has the real Python
            more = {"what": code, "executable": python}
        case ("python", *arguments):
            os.execv(python, [python, *arguments])
        case (program, *arguments):
            path = [os.path.dirname(python)]
    request: dict[str, object] = {
        "program": program,
        "what": program,
        "path": path,
        "arguments": [program, *arguments],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        **more,
    }
    connection = ask(address, request, [0, 1, 2])
    answer(connection)
    return answer(connection)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
