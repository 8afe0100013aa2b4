"""The contract of every configuration center, as tests for each provider and each fake."""

from __future__ import annotations

import asyncio
from typing import cast
from uuid import uuid4

import pytest

from microservice_core.config import ConfigCenter, ConfigDeleted, ConfigPublisher, ConfigResult
from microservice_core.errors import ConfigNotFoundError

from .waiting import Recorder, eventually

__all__ = ("ConfigCenterContract",)

State = ConfigResult | ConfigDeleted


def content_of(state: State) -> str | None:
    """The content of the document; None if it does not exist."""
    return None if isinstance(state, ConfigDeleted) else state.content


class ConfigCenterContract:
    """Subclass it, name the subclass `Test...` and give it an async fixture `center`.

    `publish` and `remove` change a document from outside, as an operator would; for a provider
    that is not a `ConfigPublisher`, override both.

    Attributes:
        patience_seconds: how long the provider may take to show a change.
    """

    patience_seconds = 10.0

    @pytest.fixture
    def data_id(self) -> str:
        """A data id that no other test uses."""
        return f"contract-{uuid4().hex[:12]}.yaml"

    async def publish(self, center: ConfigCenter, data_id: str, content: str) -> None:
        """Create or replace a document of the default group."""
        await cast("ConfigPublisher", center).publish_config(data_id, content)

    async def remove(self, center: ConfigCenter, data_id: str) -> None:
        """Delete a document of the default group."""
        await cast("ConfigPublisher", center).delete_config(data_id)

    async def wait_until_readable(
        self, center: ConfigCenter, data_id: str, content: str
    ) -> ConfigResult:
        """Wait until reading the document returns this content."""

        async def read() -> State:
            try:
                return await center.get_config(data_id)
            except ConfigNotFoundError:
                return ConfigDeleted(data_id, "", "")

        state = await eventually(
            read,
            lambda state: content_of(state) == content,
            within_seconds=self.patience_seconds,
        )
        assert isinstance(state, ConfigResult)
        return state

    async def test_a_document_that_was_never_published_is_not_found(
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
        result = await self.wait_until_readable(center, data_id, content)
        assert result.data_id == data_id
        assert result.content_type == "yaml"
        assert result.md5

    async def test_the_fingerprint_changes_with_the_content_only(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        await self.publish(center, data_id, "a: 1")
        first = await self.wait_until_readable(center, data_id, "a: 1")
        await self.publish(center, data_id, "a: 2")
        second = await self.wait_until_readable(center, data_id, "a: 2")
        await self.publish(center, data_id, "a: 1")
        third = await self.wait_until_readable(center, data_id, "a: 1")
        assert first.md5 == third.md5 != second.md5

    async def test_a_watch_starts_with_the_present_state(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        await self.publish(center, data_id, "a: 1")
        await self.wait_until_readable(center, data_id, "a: 1")
        recorder: Recorder[State] = Recorder()
        unsubscribe = center.watch_config(data_id, recorder)
        await self.wait_until_notified(recorder, "a: 1")
        assert [content_of(state) for state in recorder.states] == ["a: 1"]
        unsubscribe()

    async def test_a_watch_of_a_missing_document_starts_with_its_absence(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        unsubscribe = center.watch_config(data_id, recorder)
        await self.wait_until_notified(recorder, None)
        assert [content_of(state) for state in recorder.states] == [None]
        unsubscribe()

    async def test_a_watch_follows_creation_change_and_deletion(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        unsubscribe = center.watch_config(data_id, recorder)
        await self.wait_until_notified(recorder, None)
        for content in ("a: 1", "a: 2"):
            await self.publish(center, data_id, content)
            await self.wait_until_notified(recorder, content)
        await self.remove(center, data_id)
        await self.wait_until_notified(recorder, None)
        contents = [content_of(state) for state in recorder.states]
        assert contents == [None, "a: 1", "a: 2", None]
        unsubscribe()

    async def test_publishing_the_same_content_again_notifies_no_listener(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        await self.publish(center, data_id, "a: 1")
        await self.wait_until_readable(center, data_id, "a: 1")
        recorder: Recorder[State] = Recorder()
        unsubscribe = center.watch_config(data_id, recorder)
        await self.wait_until_notified(recorder, "a: 1")
        await self.publish(center, data_id, "a: 1")
        await self.publish(center, data_id, "a: 2")
        await self.wait_until_notified(recorder, "a: 2")
        assert [content_of(state) for state in recorder.states] == ["a: 1", "a: 2"]
        unsubscribe()

    async def test_a_slow_async_listener_gets_the_newest_state_one_call_at_a_time(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        gate = asyncio.Event()
        running, most_running = 0, 0

        async def slow(state: State) -> None:
            nonlocal running, most_running
            running += 1
            most_running = max(most_running, running)
            await gate.wait()
            recorder(state)
            running -= 1

        unsubscribe = center.watch_config(data_id, slow)
        for content in ("a: 1", "a: 2", "a: 3"):
            await self.publish(center, data_id, content)
            await self.wait_until_readable(center, data_id, content)
        gate.set()
        await self.wait_until_notified(recorder, "a: 3")
        assert most_running == 1
        unsubscribe()

    async def test_a_listener_that_raises_is_called_again_and_does_not_stop_the_others(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        contents: list[str | None] = []
        recorder: Recorder[State] = Recorder()

        def raising(state: State) -> None:
            contents.append(content_of(state))
            raise RuntimeError("this listener is broken on purpose")

        unsubscribes = [
            center.watch_config(data_id, raising),
            center.watch_config(data_id, recorder),
        ]
        await self.wait_until_notified(recorder, None)
        await self.publish(center, data_id, "a: 1")
        await self.wait_until_notified(recorder, "a: 1")
        await eventually(
            lambda: asyncio.sleep(0, contents),
            lambda contents: contents[-1:] == ["a: 1"],
            within_seconds=self.patience_seconds,
        )
        assert len(contents) >= 2
        for unsubscribe in unsubscribes:
            unsubscribe()

    async def test_an_ended_watch_calls_no_listener_and_may_be_ended_twice(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        witness: Recorder[State] = Recorder()
        unsubscribe = center.watch_config(data_id, recorder)
        unsubscribe_witness = center.watch_config(data_id, witness)
        await self.wait_until_notified(recorder, None)
        unsubscribe()
        unsubscribe()
        await self.publish(center, data_id, "a: 1")
        await self.wait_until_notified(witness, "a: 1")
        assert [content_of(state) for state in recorder.states] == [None]
        unsubscribe_witness()

    async def test_closing_ends_the_watches_and_may_be_done_twice(
        self, center: ConfigCenter, data_id: str
    ) -> None:
        recorder: Recorder[State] = Recorder()
        center.watch_config(data_id, recorder)
        await self.wait_until_notified(recorder, None)
        await center.close()
        await center.close()
        assert [content_of(state) for state in recorder.states] == [None]

    async def wait_until_notified(self, recorder: Recorder[State], content: str | None) -> None:
        """Wait until the newest state of the listener has this content; None for no document."""
        await recorder.wait_for(
            lambda state: content_of(state) == content, within_seconds=self.patience_seconds
        )
