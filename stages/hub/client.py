"""Calls to the Hub: retried during outages, and with one line for errors that the user can fix.

The token is the client's own (HF_TOKEN, or its stored login): never an argument, and never in a message of ours.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from stages.common.stage import UserError

if TYPE_CHECKING:  # the client takes a quarter of a second, and most runs publish nothing
    from huggingface_hub import HfApi

Result = TypeVar("Result")

# Retried: timeouts, a repository that something else writes to (409), a moved head (412), limits, outages.
TRY_AGAIN = (408, 409, 412, 425, 429, 500, 502, 503, 504)
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
PATIENCE_S = 330.0  # of one call, waits included: the Hub counts its limits over five minutes
SILENCE_S = 120.0  # an open connection without a byte for so long is dead
# hf_xet raises a bare ConnectionError for every failure between it and the Hub.
XET_REFUSAL = re.compile(r"HTTP status client error \((40[0-9])")
TOKENS = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{20,}")


class Refused(UserError):
    """The Hub refuses, and another try would not help. `status` is its HTTP status."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status


@functools.cache
def api() -> HfApi:
    """The Hub's client, with a limit on silence (its own waits forever) and without output that may hold a secret."""
    import httpx2
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils import logging
    from huggingface_hub.utils._http import default_client_factory

    def make_session() -> httpx2.Client:
        session = default_client_factory()
        session.timeout = httpx2.Timeout(SILENCE_S)
        return session

    set_client_factory(make_session)
    # Warnings name upload addresses, which are signed; with HF_DEBUG=1 a Space's secrets would be printed.
    logging.set_verbosity_error()
    return HfApi()


def call(what: str, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """Returns `function(...)`, called again while the Hub limits, fails or drops the connection.

    what: names the call in a message, such as "publishing ann/voice". Replies get lost, so
    the function must allow another call after it had its effect.
    Raises: Refused (a UserError) if another try would not help, UserError when patience ends.
    """
    import httpx2

    began_s = time.monotonic()
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return function(*arguments, **named)
        except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
            problem, pause_s = _passing(error)
            if problem is None:
                # Not `from error`: a chain of exceptions would print what ours leaves out.
                raise _refusal(what, error) from None
        pause_s = wait_s if pause_s is None else pause_s
        if time.monotonic() - began_s + pause_s > PATIENCE_S:
            raise UserError(f"{what}: {problem}, for {PATIENCE_S / 60:.0f} minutes: run it again later") from None
        print(f"{what}: {problem}, trying again in {pause_s:g} s", flush=True)
        time.sleep(pause_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _passing(error: Exception) -> tuple[str | None, float | None]:
    """(words for a problem that may be over soon, the pause that the Hub asks for); (None, None) for other errors."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in TRY_AGAIN:
            return None, None
        asked = error.response.headers.get("Retry-After", "")
        return f"the Hub answers {error.response.status_code}", float(asked) if asked.isdigit() else None
    if isinstance(error, OfflineModeIsEnabled):
        return None, None
    if isinstance(error, httpx2.TransportError | ConnectionError | TimeoutError):
        return (None, None) if XET_REFUSAL.search(str(error)) else ("the Hub cannot be reached", None)
    if isinstance(error, json.JSONDecodeError):  # the client reads a body as JSON before it looks at the status
        return "the Hub answers with something unreadable", None
    return None, None


def _refusal(what: str, error: Exception) -> Exception:
    """The UserError to raise for an error that will not pass; the error itself if it is a fault of ours."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    def refused(words: str, status: int | None) -> Refused:
        return Refused(f"{what}: {words}", status)

    login = "log in with 'hf auth login', or set HF_TOKEN"
    if isinstance(error, OfflineModeIsEnabled):
        return refused("HF_HUB_OFFLINE is set: unset it to publish", None)
    if isinstance(error, LocalTokenNotFoundError):
        return refused(f"no token: {login}", 401)
    if isinstance(error, HFValidationError):
        return refused(f"not a name on the Hub (USER/NAME): {one_line(error)}", None)
    if isinstance(error, ValueError) and "README.md" in str(error):
        return refused(f"the Hub does not accept the card: {one_line(error)}", 400)
    if isinstance(error, ConnectionError) and (found := XET_REFUSAL.search(str(error))):
        return refused(
            f"the upload was refused ({one_line(error)}): {login}, with a token that may write", int(found[1])
        )
    if isinstance(error, RepositoryNotFoundError):
        return refused(f"not there, or not for this token: check the name, {login}", 404)
    if not isinstance(error, HfHubHTTPError):
        return error
    status = error.response.status_code
    reason = f" ({one_line(error.server_message)})" if error.server_message else ""
    if status == 401:
        return refused(f"the Hub does not know the token: {login}", status)
    if status == 402:
        return refused(f"the Hub wants a paid plan for this{reason}: choose another deploy.hardware", status)
    if status == 403:
        return refused(f"the token may not do this{reason}: {login}, with a token that may write", status)
    return refused(f"the Hub answers {status}{reason}: {one_line(error)}", status)


def one_line(text: object, most: int = 300) -> str:
    """A message in one line of at most `most` characters, without tokens."""
    from huggingface_hub import get_token

    line = " ".join(str(text).split())
    if token := get_token():
        line = line.replace(token, "<token>")
    return TOKENS.sub("<token>", line)[:most]
