"""A prefork server in small: the parent opens a module, and so does each of two forked workers."""

import os
import signal
import sys

from microservice_kit import MicroserviceModule


def serve(port: int) -> None:
    """Be registered until SIGTERM."""
    with MicroserviceModule(port=port) as module:
        assert module.ready()
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    first = int(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with MicroserviceModule(port=first) as ours:
        for number in (1, 2):
            if os.fork() == 0:
                serve(first + number)
                os._exit(0)
        for _ in range(2):
            os.wait()
        assert ours.ready()  # the children's ends took nothing of the parent's along
        signal.sigwait({signal.SIGTERM})
