"""Calls to the Hub: retried during outages, and with one line for errors that the user can fix.

The token is the client's own (HF_TOKEN, or its stored login): never an argument, and never in a message of ours.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stages.common.stage import UserError

if TYPE_CHECKING:  # the client takes a quarter of a second, and most runs publish nothing
    from huggingface_hub import HfApi

Result = TypeVar("Result")

# Retried: timeouts, a repository that something else writes to (409), a moved head (412), limits, outages.
TRY_AGAIN = (408, 409, 412, 425, 429, 500, 502, 503, 504)
PAUSES_S = (1, 2, 4, 8, 16, 30, 60, 90, 120)  # together more than five minutes, over which the Hub counts its limits
SILENCE_S = 120.0  # an open connection without a byte for so long is dead
# hf_xet raises a bare ConnectionError for every failure between it and the Hub.
XET_REFUSAL = re.compile(r"HTTP status client error \((40[0-9])")
TOKENS = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{20,}")
LOGIN = "log in with 'hf auth login', or set HF_TOKEN"
ADVICE = {
    401: f"the Hub does not know the token: {LOGIN}",
    402: "the Hub wants a paid plan for this: choose another deploy.hardware",
    403: f"the token may not do this: {LOGIN}, with a token that may write",
    404: f"not there, or not for this token: check the name, {LOGIN}",
}


class Refused(UserError):
    """The Hub refuses, and another try would not help. `status` is its HTTP status; None: nothing was asked."""

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


def call(
    what: str, function: Callable[..., Result], *arguments: Any, pauses_s: Sequence[float] | None = None, **named: Any
) -> Result:
    """Returns `function(...)`, called again while the Hub limits, fails or drops the connection.

    what: names the call in a message, such as "publishing ann/voice". Replies get lost, so the function must allow
    another call after it had its effect. pauses_s: before each other try; PAUSES_S if it is None.
    Raises: Refused (a UserError) if another try would not help, UserError after the last one.
    """
    import httpx2

    for pause_s in (*(PAUSES_S if pauses_s is None else pauses_s), None):
        try:
            return function(*arguments, **named)
        except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
            problem = _passing(error)
            if problem is None:
                # Not `from error`: a chain of exceptions would print what ours leaves out.
                raise _refusal(what, error) from None
        if pause_s is not None:
            print(f"{what}: {problem}, trying again in {pause_s:g} s", flush=True)
            time.sleep(pause_s)
    raise UserError(f"{what}: {problem}: run it again later")


def _passing(error: Exception) -> str | None:
    """Words for a problem that may be over soon; None for other errors."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return f"the Hub answers {status}" if status in TRY_AGAIN else None
    if isinstance(error, json.JSONDecodeError):  # the client reads a body as JSON before it looks at the status
        return "the Hub answers with something unreadable"
    if isinstance(error, OfflineModeIsEnabled) or XET_REFUSAL.search(str(error)):
        return None
    is_connection = isinstance(error, httpx2.TransportError | ConnectionError | TimeoutError)
    return "the Hub cannot be reached" if is_connection else None


def _refusal(what: str, error: Exception) -> Exception:
    """The UserError to raise for an error that will not pass; the error itself if it is a fault of ours."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, OfflineModeIsEnabled):
        return Refused(f"{what}: HF_HUB_OFFLINE is set: unset it", None)
    if isinstance(error, HFValidationError):
        return Refused(f"{what}: not a name on the Hub (USER/NAME): {one_line(error)}", 400)
    if isinstance(error, ValueError) and "README.md" in str(error):
        return Refused(f"{what}: the Hub does not accept the card: {one_line(error)}", 400)
    if isinstance(error, LocalTokenNotFoundError):
        status = 401
    elif isinstance(error, RepositoryNotFoundError):  # also a 401 of somebody without a token
        status = 404
    elif isinstance(error, HfHubHTTPError):
        status = error.response.status_code
    elif found := XET_REFUSAL.search(str(error)):
        status = int(found[1])
    else:
        return error
    reason = getattr(error, "server_message", None) or error
    return Refused(f"{what}: {ADVICE.get(status, f'the Hub answers {status}')} ({one_line(reason)})", status)


def one_line(text: object) -> str:
    """A message in one line of at most 300 characters, without tokens."""
    from huggingface_hub import get_token

    line = " ".join(str(text).split())
    if token := get_token():
        line = line.replace(token, "<token>")
    return TOKENS.sub("<token>", line)[:300]
