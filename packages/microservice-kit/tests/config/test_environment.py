"""What the environment gets wrong is blamed on its variable, not on a document."""

import pytest
from pydantic import BaseModel, Field, model_validator

from microservice_core import InMemoryConfigCenter
from microservice_kit import InvalidConfigError, MicroserviceModule


class Db(BaseModel):
    pool: int = 5
    hosts: list[str] = Field(default_factory=list)


class Settings(BaseModel):
    pool: int = 5
    db: Db = Db()


class Never(BaseModel):
    pool: int = 5

    @model_validator(mode="after")
    def _refuse(self) -> "Never":
        raise ValueError("never")


async def read_problem(document: str = "{}", model: type[BaseModel] = Settings) -> str:
    center = InMemoryConfigCenter({"a.json": document})
    module = MicroserviceModule(config_center=center, documents=["a.json"], config=model)
    with pytest.raises(InvalidConfigError) as caught:
        async with module:
            pytest.fail("it must not open")
    return str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("APP_POOL", "s3cret", "environment variable APP_POOL: Input should be a valid integer"),
        ("APP_DB__POOL", "s3cret", "environment variable APP_DB__POOL: Input should be"),
        ("APP_DB", "{s3cret", 'field "db"'),
    ],
)
async def test_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    problem = await read_problem()
    assert "configuration 'environment' is invalid" in problem
    assert said in problem
    assert "correct the variable" in problem
    assert "a.json" not in problem
    assert "s3cret" not in problem


async def test_a_document_that_wins_over_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_POOL", "7")
    problem = await read_problem('{"pool": "many"}')
    assert "configuration 'a.json' is invalid: pool: " in problem


async def test_a_rule_about_the_whole_is_nobody_s_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_POOL", "7")
    assert "configuration 'a.json' is invalid: the document: " in await read_problem(model=Never)


@pytest.mark.parametrize("config", [dict, Settings(), "Settings"])
def test_a_config_that_is_no_model_is_refused(config: type[BaseModel]) -> None:
    with pytest.raises(ValueError, match="config must be a class that is a pydantic BaseModel"):
        MicroserviceModule(config=config)
