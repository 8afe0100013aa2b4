"""A Flask application whose workers each open a module of their own, after the fork."""

from contextlib import ExitStack

from flask import Flask, current_app
from pydantic import BaseModel

from microservice_kit import MicroserviceModule, SyncServices


class Settings(BaseModel):
    greeting: str = "hello"


app = Flask(__name__)
opened = ExitStack()


def start(port: int) -> None:
    """In a worker: open the module; it registers this port."""
    module = MicroserviceModule(service_name="greeter", port=port, config=Settings)
    app.extensions["microservice"] = opened.enter_context(module)


def services() -> SyncServices[Settings]:
    opened_here: SyncServices[Settings] = current_app.extensions["microservice"]
    return opened_here


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, str]:
    return {"said": f"{services().config.current.greeting}, {name}"}


@app.get("/relayed/<name>")
def relayed(name: str) -> dict[str, str]:
    """The same, said by whoever `greeter` leads to."""
    answer: dict[str, str] = services().service_client.get("greeter", f"/hello/{name}").json()
    return answer
