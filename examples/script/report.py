"""A plain script: reads its configuration, calls a service by name, and is done."""

from pydantic import BaseModel

from microservice_kit import MicroserviceModule


class Settings(BaseModel):
    article: str = "pear"


with MicroserviceModule(service_name="report", config=Settings, register=False) as module:
    article = module.config.current.article
    response = module.service_client.get("inventory", f"/stock/{article}")
    print(f"{article}: {response.json()['pieces']} in stock")
