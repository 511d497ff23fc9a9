"""How warm_parent.py is asked for a program; and what its forks start in the place of Python, which asks as well."""

import json
import os
import socket
import struct
import sys
from collections.abc import Mapping

ADDRESS = "TEST_WARM_PYTHON"  # of the interpreter that forks, for all workers


def ask(address: str, request: Mapping[str, object], files: list[int]) -> socket.socket:
    """Ask for a fork with these files as its standard input, output and error; it answers twice: process, status."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    text = f"{json.dumps(request)}\n".encode()
    sent = socket.send_fds(connection, [text], files)
    if rest := text[sent:]:  # a fork that has ended already would make an empty one an error
        connection.sendall(rest)
    return connection


def answer(connection: socket.socket) -> int:
    """The next number."""
    (number,) = struct.unpack("i", connection.recv(4, socket.MSG_WAITALL))
    return int(number)


def main(address: str, python: str, *command: str) -> int:
    """Run the Python command in a fork if it is one of Copier or pytest, or by the real Python."""
    match command:
        case ("-P", "-m", "copier", *arguments):
            program, path = "copier", []
        case ("-m", "pytest", *arguments):
            program, path = "pytest", [os.getcwd()]
        case _:
            os.execv(python, [python, *command])
    request = {
        "program": program,
        "path": path,
        "arguments": [program, *arguments],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    connection = ask(address, request, [0, 1, 2])
    answer(connection)
    return answer(connection)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
