"""A Django project in one file, served by threads, in the `with` block of a module."""

import os
import signal
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from pydantic import BaseModel

from microservice_kit import MicroserviceModule, SyncOpenModule

PORT = int(os.environ.get("PORT", "8000"))


class Settings(BaseModel):
    greeting: str = "hello"


settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])


def hello(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse({"said": f"{module.config.current.greeting}, {name}"})


def relayed(request: HttpRequest, name: str) -> JsonResponse:
    """The same, from the instance that a call to `greeter` reaches."""
    return JsonResponse(module.service_client.get("greeter", f"/hello/{name}").json())


urlpatterns = [path("hello/<str:name>", hello), path("relayed/<str:name>", relayed)]


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""


if __name__ == "__main__":
    server = make_server("127.0.0.1", PORT, get_wsgi_application(), server_class=Server)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    module: SyncOpenModule[Settings]
    with MicroserviceModule(service_name="greeter", port=PORT, config=Settings) as module:
        server.serve_forever()
