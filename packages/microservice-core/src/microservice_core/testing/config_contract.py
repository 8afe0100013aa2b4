"""What every configuration center has to do; run against each provider and each fake."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from microservice_core.config import ConfigCenter, ConfigDeleted, ConfigResult
from microservice_core.errors import ConfigNotFoundError

from .waiting import Recorder, eventually

__all__ = ("ConfigCenterContract",)

State = ConfigResult | ConfigDeleted


def content_of(state: State) -> str | None:
    """The content, or None for a document that is not there."""
    return None if isinstance(state, ConfigDeleted) else state.content


class ConfigCenterContract:
    """Subclass it, name the subclass `Test...` and give it an async fixture `center`.

    `publish` and `remove` change a document from outside, as an operator would; a provider that
    is no `ConfigPublisher` overrides both.

    Attributes:
        patience_seconds: how long the provider may take to show a change.
    """

    patience_seconds = 10.0

    @pytest.fixture
    def data_id(self) -> str:
        """A document nobody else uses."""
        return f"contract-{uuid4().hex[:12]}.yaml"

    async def publish(self, center: ConfigCenter, data_id: str, content: str) -> None:
        """Create or replace a document of the default group."""
        await center.publish_config(data_id, content)  # type: ignore[attr-defined]

    async def remove(self, center: ConfigCenter, data_id: str) -> None:
        """Delete a document of the default group."""
        await center.delete_config(data_id)  # type: ignore[attr-defined]

    async def readable(self, center: ConfigCenter, data_id: str, content: str) -> ConfigResult:
        """Wait until the document reads so."""

        async def read() -> State:
            try:
                return await center.get_config(data_id)
            except ConfigNotFoundError:
                return ConfigDeleted(data_id, "", "")

        found = await eventually(
            read,
            lambda state: content_of(state) == content,
            within_seconds=self.patience_seconds,
        )
        assert isinstance(found, ConfigResult)
        return found

    async def test_a_document_nobody_published_is_not_found(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        with pytest.raises(ConfigNotFoundError) as caught:
            await center.get_config(data_id)
        assert caught.value.target == data_id

    async def test_a_published_document_is_read_back_to_the_letter(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        content = "greeting: 你好 ✓\nlines: |\n  one\n  two\n"
        await self.publish(center, data_id, content)
        result = await self.readable(center, data_id, content)
        assert result.data_id == data_id
        assert result.content_type == "yaml"
        assert result.md5

    async def test_the_fingerprint_changes_with_the_content_only(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        await self.publish(center, data_id, "a: 1")
        first = await self.readable(center, data_id, "a: 1")
        await self.publish(center, data_id, "a: 2")
        second = await self.readable(center, data_id, "a: 2")
        await self.publish(center, data_id, "a: 1")
        third = await self.readable(center, data_id, "a: 1")
        assert first.md5 == third.md5 != second.md5

    async def test_a_watch_tells_the_present_state_first(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        await self.publish(center, data_id, "a: 1")
        await self.readable(center, data_id, "a: 1")
        recorder: Recorder[State] = Recorder()
        stop = center.watch_config(data_id, recorder)
        await self.told(recorder, "a: 1")
        stop()

    async def test_a_watch_of_a_missing_document_tells_that_it_is_missing(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        stop = center.watch_config(data_id, recorder)
        await self.told(recorder, None)
        stop()

    async def test_a_watch_follows_creation_change_and_deletion(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        stop = center.watch_config(data_id, recorder)
        await self.told(recorder, None)
        for content in ("a: 1", "a: 2"):
            await self.publish(center, data_id, content)
            await self.told(recorder, content)
        await self.remove(center, data_id)
        await self.told(recorder, None)
        told = [content_of(state) for state in recorder.states]
        assert told == [None, "a: 1", "a: 2", None]
        stop()

    async def test_publishing_the_same_again_tells_nobody(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        await self.publish(center, data_id, "a: 1")
        await self.readable(center, data_id, "a: 1")
        recorder: Recorder[State] = Recorder()
        stop = center.watch_config(data_id, recorder)
        await self.told(recorder, "a: 1")
        await self.publish(center, data_id, "a: 1")
        await self.publish(center, data_id, "a: 2")
        await self.told(recorder, "a: 2")
        assert [content_of(state) for state in recorder.states] == ["a: 1", "a: 2"]
        stop()

    async def test_an_async_listener_that_is_slow_sees_the_newest_and_never_two_at_once(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        gate = asyncio.Event()
        inside = 0

        async def slow(state: State) -> None:
            nonlocal inside
            inside += 1
            assert inside == 1
            await gate.wait()
            recorder(state)
            inside -= 1

        stop = center.watch_config(data_id, slow)
        for content in ("a: 1", "a: 2", "a: 3"):
            await self.publish(center, data_id, content)
            await self.readable(center, data_id, content)
        gate.set()
        await self.told(recorder, "a: 3")
        stop()

    async def test_a_listener_that_raises_stops_neither_itself_nor_the_others(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        calls: list[str | None] = []
        recorder: Recorder[State] = Recorder()

        def raising(state: State) -> None:
            calls.append(content_of(state))
            raise RuntimeError("this listener is broken on purpose")

        stops = [center.watch_config(data_id, raising), center.watch_config(data_id, recorder)]
        await self.told(recorder, None)
        await self.publish(center, data_id, "a: 1")
        await self.told(recorder, "a: 1")
        await eventually(
            lambda: asyncio.sleep(0, calls),
            lambda seen: seen[-1:] == ["a: 1"],
            within_seconds=self.patience_seconds,
        )
        for stop in stops:
            stop()

    async def test_an_ended_watch_is_silent_and_ending_it_twice_is_fine(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        ended: Recorder[State] = Recorder()
        witness: Recorder[State] = Recorder()
        stop = center.watch_config(data_id, ended)
        stop_witness = center.watch_config(data_id, witness)
        await self.told(ended, None)
        stop()
        stop()
        await self.publish(center, data_id, "a: 1")
        await self.told(witness, "a: 1")
        assert [content_of(state) for state in ended.states] == [None]
        stop_witness()

    async def test_closing_twice_is_fine(self, center: ConfigCenter) -> None:
        await center.close()
        await center.close()

    async def told(self, recorder: Recorder[State], content: str | None) -> None:
        """Wait until the listener was told this content, None for "not there"."""
        await recorder.wait_for(
            lambda state: content_of(state) == content, within_seconds=self.patience_seconds
        )
