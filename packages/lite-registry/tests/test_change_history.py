"""The changes that the status page lists."""

from lite_registry.change_history import ChangeHistory


def test_its_state_moves_with_every_change_and_with_time_and_with_nothing_else() -> None:
    now = 1000.0
    history = ChangeHistory(max_entries=2, wall_clock=lambda: now)
    states = [history.count_entries()]
    for change in ("one", "two", "three"):
        history.add("orders", [change])
        states.append(history.count_entries())
    assert [each["what"] for each in history.to_documents()] == ["three", "two"]
    assert history.count_entries() == states[-1]
    now += 3601.0
    states.append(history.count_entries())
    assert len(set(states)) == 5
    assert history.to_documents() == []
