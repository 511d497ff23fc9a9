"""How a program is asked of warm_parent.py; and, in the place of Python in its forks, what asks for their Copier."""

import json
import os
import socket
import struct
import sys
from collections.abc import Mapping

ADDRESS = "TEST_WARM_PYTHON"  # of the interpreter that forks, for all workers


def ask(address: str, request: Mapping[str, object], files: list[int]) -> socket.socket:
    """Ask for a fork whose output goes to these files; it answers twice: its process, its status."""
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
    """Run the Python command in a fork if it is Copier's, or by the real Python."""
    if command[:3] != ("-P", "-m", "copier"):
        os.execv(python, [python, *command])
    request = {
        "program": "copier",
        "path": [],
        "arguments": ["copier", *command[3:]],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    connection = ask(address, request, [1, 2])
    answer(connection)
    return answer(connection)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
