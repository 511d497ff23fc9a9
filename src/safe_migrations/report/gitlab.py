"""The report as a note of a GitLab merge request, which a later pipeline replaces."""

import json
import os
from collections.abc import Iterable
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from safe_migrations.errors import ConfigurationError, MigrationError

TOKEN = "MIGRATION_REPORT_TOKEN"  # noqa: S105 — the name of a variable
_TIMEOUT = 30  # seconds


def write_note(text: str, service: str) -> None:
    """Write the report into a note of the merge request, or replace the note of an earlier pipeline.

    Without a token or a merge request, nothing is written.

    See https://docs.gitlab.com/api/notes/#merge-requests, which the job's own token may not use.

    Args:
        service: whose it is: in a monorepo, each service has a note.

    Raises:
        ConfigurationError: this is not a job of GitLab CI, or the token is not valid.
        MigrationError: GitLab did not accept the note.
    """
    variables = [os.environ.get(name, "") for name in ("CI_API_V4_URL", "CI_PROJECT_ID")]
    if not all(variables):
        raise ConfigurationError("--gitlab is for jobs of GitLab CI, whose variables are missing here.")
    token, number = os.environ.get(TOKEN, "").strip(), _merge_request()
    if not token or not number:
        return
    if not (token.isascii() and token.isprintable()):  # http.client would show such a header in its error
        raise ConfigurationError(f"{TOKEN} has characters that no token has. Write only the token into the variable.")
    notes = f"{variables[0]}/projects/{variables[1]}/merge_requests/{number}/notes"
    marker = f"<!-- safe-migrations report: {quote(service)} -->"
    body = {"body": f"{marker}\n\n{text}"}
    try:
        existing = _call("GET", f"{notes}?per_page=100&order_by=created_at&sort=asc", token)
        if not _replaced(notes, [note["id"] for note in existing if note["body"].startswith(marker)], token, body):
            _call("POST", notes, token, body)
    except (OSError, HTTPException, ValueError) as error:
        raise MigrationError(
            f"GitLab did not accept the report as a note: {error}. {TOKEN} must be an access token of the project with "
            "the scope api."
        ) from error


def _merge_request() -> str:
    """The number of the merge request: of its pipeline, or else of the branch."""
    of_branch = os.environ.get("CI_OPEN_MERGE_REQUESTS", "").partition(",")[0]  # group/project!7
    return os.environ.get("CI_MERGE_REQUEST_IID") or of_branch.rpartition("!")[2]


def _replaced(notes: str, ids: Iterable[int], token: str, body: dict[str, str]) -> bool:
    """Whether a note was replaced: another user's note, with the marker copied, can't be."""
    for id_ in ids:
        try:
            _call("PUT", f"{notes}/{id_}", token, body)
        except HTTPError as error:
            if error.code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise
        else:
            return True
    return False


def _call(method: str, url: str, token: str, body: dict[str, str] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 — GitLab's own URL
    request.add_unredirected_header("PRIVATE-TOKEN", token)
    with urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
        return json.load(answer)
