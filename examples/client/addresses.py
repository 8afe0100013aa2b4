"""Calls from a plain script, to fixed addresses: python addresses.py http://127.0.0.1:8001 ..."""

import sys

from microservice_client import ServiceClient

orders = sys.argv[1:] or ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]

with ServiceClient.from_addresses({"orders": orders}) as client:
    response = client.get("orders", "/who", timeout=2.0)
    print(response.status_code, response.text)
