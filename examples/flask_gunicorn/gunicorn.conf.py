"""How gunicorn serves it, and the two hooks that open and close a module in each worker."""

from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

chdir = str(Path(__file__).parent)
wsgi_app = "shop:app"
workers = 2
threads = 4
preload_app = True  # the module is opened after the fork all the same


def post_worker_init(worker: Worker) -> None:
    import shop

    shop.start(port=worker.sockets[0].getsockname()[1])


def worker_exit(server: Arbiter, worker: Worker) -> None:
    import shop

    shop.stack.close()
