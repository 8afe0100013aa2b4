import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from microservice_core import InvalidValueError
from microservice_kit import MicroserviceModule


@asynccontextmanager
async def redis_server(answer: bytes = b"+PONG\r\n") -> AsyncIterator[str]:
    """As much of Redis as greets, says this to a ping, and OK to everything else."""
    answers = {b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", b"PING": answer}

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                await reader.readline()
                words.append((await reader.readline()).strip().upper())
            writer.write(answers.get(words[0], b"+OK\r\n"))
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield f"redis://:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


async def test_a_redis_that_answers_is_up() -> None:
    async with redis_server() as url, MicroserviceModule(redis_url=url) as module:
        result = (await module.health.check())["redis"]
        assert (result.status, result.detail) == ("up", "responds")


async def test_a_redis_that_does_not_is_shown_without_its_password_and_the_service_stays_ready() -> (
    None
):
    async with (
        redis_server(b"-LOADING hunter2\r\n") as url,
        MicroserviceModule(redis_url=url) as module,
    ):
        result = (await module.health.check())["redis"]
        assert result.status == "down"
        assert "hunter2" not in result.detail
        assert await module.health.ready()


async def test_what_is_no_address_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidValueError, match="redis_url") as caught:
        async with MicroserviceModule(redis_url="hunter2"):
            pytest.fail("it must not open")
    assert "hunter2" not in str(caught.value)
