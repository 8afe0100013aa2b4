"""A Flask application whose workers each open a module of their own, after the fork."""

from contextlib import ExitStack

from flask import Flask, current_app
from pydantic import BaseModel

from microservice_kit import MicroserviceModule, SyncOpenModule


class Settings(BaseModel):
    greeting: str = "hello"


app = Flask(__name__)
stack = ExitStack()


def start(port: int) -> None:
    """In a worker: open the module; it registers this port."""
    microservice = MicroserviceModule(service_name="greeter", port=port, config=Settings)
    app.extensions["microservice"] = stack.enter_context(microservice)


def open_module() -> SyncOpenModule[Settings]:
    module: SyncOpenModule[Settings] = current_app.extensions["microservice"]
    return module


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, str]:
    return {"said": f"{open_module().config.current.greeting}, {name}"}


@app.get("/relayed/<name>")
def relayed(name: str) -> dict[str, str]:
    """The same, from the instance that a call to `greeter` reaches."""
    greeting: dict[str, str] = open_module().service_client.get("greeter", f"/hello/{name}").json()
    return greeting
