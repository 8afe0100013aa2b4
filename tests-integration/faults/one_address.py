"""Two forked workers of one address: each opens a module, and names itself in a folder then."""

import os
import signal
import sys
from pathlib import Path

from microservice_kit import MicroserviceModule


def serve(port: int) -> None:
    """Be there until SIGTERM."""
    with MicroserviceModule(port=port) as module:
        assert module.ready()
        (Path(sys.argv[2]) / str(os.getpid())).touch()
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for _ in range(2):
        if os.fork() == 0:
            serve(int(sys.argv[1]))
            os._exit(0)
    for _ in range(2):
        os.wait()
