"""Calls to the Hub that survive its bad moments, and say in one line what a person can mend.

The token is the client's own (HF_TOKEN, or its stored login); it is never an argument, and never in a message of ours.
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

# Worth another try: timeouts, a repository that something else writes to (409), a moved head (412), limits, outages.
TRY_AGAIN = (408, 409, 412, 425, 429, 500, 502, 503, 504)
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
PATIENCE_S = 330.0  # of one call, waits included: the Hub counts its limits over five minutes
SILENCE_S = 120.0  # an open connection on which nothing comes for so long is dead
# hf_xet raises a bare ConnectionError for all that goes wrong between it and the Hub.
XET_REFUSAL = re.compile(r"HTTP status client error \((40[0-9])")
TOKENS = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{20,}")


class Refused(UserError):
    """The Hub says no, and will say so again. `status` is its HTTP status."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status


@functools.cache
def api() -> HfApi:
    """The Hub's client, with a limit on silence (its own waits forever) and without anything on the screen that could
    hold a secret."""
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
    """`function(...)`, repeated while the Hub limits, fails or drops the connection.

    what: names the call in a message, such as "publishing ann/voice". The function must bear being repeated though its
    first try had an effect: replies get lost.
    Raises: Refused (a UserError) for what will not change by itself, UserError when patience ends.
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
    """In words what may be over soon, and the pause that the Hub asks for; (None, None) for everything else."""
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
    """The UserError to raise for an error that will not pass; the error itself where it is a fault of ours."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, OfflineModeIsEnabled):
        return Refused(f"{what}: HF_HUB_OFFLINE is set: unset it to publish", None)
    if isinstance(error, LocalTokenNotFoundError):
        return Refused(f"{what}: no token: log in with 'hf auth login', or set HF_TOKEN", 401)
    if isinstance(error, HFValidationError):
        return Refused(f"{what}: not a name on the Hub (USER/NAME): {one_line(error)}", None)
    if isinstance(error, ValueError) and "README.md" in str(error):
        return Refused(f"{what}: the Hub does not take the card: {one_line(error)}", 400)
    if isinstance(error, ConnectionError) and (refused := XET_REFUSAL.search(str(error))):
        return Refused(
            f"{what}: the upload was refused ({one_line(error)}): log in again with 'hf auth login', or set "
            f"HF_TOKEN to a token that may write",
            int(refused[1]),
        )
    if not isinstance(error, HfHubHTTPError):
        return error
    status = error.response.status_code
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return Refused(f"{what}: the Hub does not know the token: log in with 'hf auth login', or set HF_TOKEN", status)
    if isinstance(error, RepositoryNotFoundError):
        return Refused(
            f"{what}: not there, or not for this token: check the name, log in with 'hf auth login', or set HF_TOKEN",
            404,
        )
    reason = f" ({one_line(error.server_message)})" if error.server_message else ""
    if status == 402:
        return Refused(f"{what}: the Hub wants a paid plan for this{reason}: choose another deploy.hardware", status)
    if status == 403:
        return Refused(
            f"{what}: the token may not do this{reason}: log in with one that may write ('hf auth login'), or set "
            f"HF_TOKEN to it",
            status,
        )
    return Refused(f"{what}: the Hub answers {status}{reason}: {one_line(error)}", status)


def one_line(text: object, most: int = 300) -> str:
    """A message in one line of at most so many characters, without tokens."""
    from huggingface_hub import get_token

    line = " ".join(str(text).split())
    if token := get_token():
        line = line.replace(token, "<token>")
    return TOKENS.sub("<token>", line)[:most]
