"""trackio's dashboard of all trainings, on this machine only.

python -m recorder.dashboard PROJECT PORT       (the Train page starts it; it ends when its input ends)
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

from stages.common.stage import UserError

HOST = "127.0.0.1"
STARTS_WITHIN_S = 30


class Dashboard:
    """The dashboard's process, which ends with the process that started it."""

    def __init__(self, project: str) -> None:
        """Raises: UserError if it does not answer in time."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recorder.dashboard", project, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # trackio prints a token that allows changing the figures
            stderr=subprocess.DEVNULL,
        )
        gives_up_at_s = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > gives_up_at_s:
                self.process.kill()
                raise UserError("The dashboard did not start. In a terminal: trackio show")
            time.sleep(0.2)

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


def main() -> None:
    import trackio

    project, port = sys.argv[1:]
    trackio.show(project=project, host=HOST, server_port=int(port), open_browser=False, block_thread=False)
    sys.stdin.read()


if __name__ == "__main__":
    main()
