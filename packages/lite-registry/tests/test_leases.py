import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lite_registry.errors import Problem
from lite_registry.instance import Instance, ServiceKey
from lite_registry.leases import LeaseTable, Precondition
from lite_registry.self_preservation import SelfPreservation, match_replacements

ORDERS = ServiceKey("orders")


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def instance(instance_id: str = "a", **fields: object) -> Instance:
    return Instance(instance_id, "10.0.0.7", 8000, **fields)  # type: ignore[arg-type]


def ids(table: LeaseTable, key: ServiceKey = ORDERS) -> list[str]:
    return [one.id for one in table.list_instances(key)]


def test_an_instance_lives_for_its_ttl_after_the_last_renewal() -> None:
    clock = Clock()
    table = LeaseTable(clock=clock)
    assert table.put(ORDERS, instance(ttl_seconds=10))
    clock.now = 9
    table.renew(ORDERS, "a")
    clock.now = 18.9
    assert table.expire() == 0
    clock.now = 19
    assert table.expire() == 1
    assert ids(table) == []
    assert table.list_services() == []
    with pytest.raises(Problem, match="has no instance 'a'; register it with PUT"):
        table.renew(ORDERS, "a")


def test_a_lasting_instance_never_lapses() -> None:
    clock = Clock()
    table = LeaseTable(clock=clock)
    table.put(ORDERS, instance(ephemeral=False))
    clock.now = 1e9
    assert table.expire() == 0
    assert table.next_lapse() is None


def test_putting_again_renews_and_tells_of_a_change_only_when_there_is_one() -> None:
    changes: list[ServiceKey] = []
    clock = Clock()
    table = LeaseTable(clock=clock, on_change=changes.append)
    table.put(ORDERS, instance())
    assert not table.put(ORDERS, instance())
    assert changes == [ORDERS]
    table.put(ORDERS, instance(weight=2.0))
    assert changes == [ORDERS, ORDERS]


def test_a_shorter_ttl_takes_effect_at_once() -> None:
    clock = Clock()
    table = LeaseTable(clock=clock)
    table.put(ORDERS, instance(ttl_seconds=3600))
    table.put(ORDERS, instance(ttl_seconds=1))
    clock.now = 1
    assert table.expire() == 1


def test_one_more_than_there_is_room_for_is_refused_and_changes_nothing() -> None:
    table = LeaseTable(capacity=1)
    table.put(ORDERS, instance("a"))
    with pytest.raises(Problem, match="1 instances are registered; raise --capacity") as caught:
        table.put(ORDERS, instance("b"))
    assert caught.value.status == 507
    assert ids(table) == ["a"]
    table.put(ORDERS, instance("a", weight=3.0))
    assert table.remove(ORDERS, "a")
    assert table.put(ORDERS, instance("b"))


def test_a_table_without_room_is_no_table() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1, not 0"):
        LeaseTable(capacity=0)


@pytest.mark.parametrize(
    ("precondition", "registered", "refused"),
    [
        (Precondition(absent=True), False, None),
        (Precondition(absent=True), True, "registered already"),
        (Precondition(("*",)), True, None),
        (Precondition(("*",)), False, "not registered"),
        (Precondition((instance().etag,)), True, None),
        (Precondition(("other", instance().etag)), True, None),
        (Precondition(("other",)), True, "has changed"),
    ],
)
def test_a_write_with_a_precondition_only_happens_on_the_state_it_is_meant_for(
    precondition: Precondition, registered: bool, refused: str | None
) -> None:
    table = LeaseTable()
    if registered:
        table.put(ORDERS, instance())
    if refused is None:
        table.put(ORDERS, instance(weight=9.0), precondition)
        assert table.list_instances(ORDERS)[0].weight == 9.0
        return
    with pytest.raises(Problem, match=refused) as caught:
        table.put(ORDERS, instance(weight=9.0), precondition)
    assert caught.value.status == 412
    with pytest.raises(Problem, match=refused):
        table.remove(ORDERS, "a", precondition)
    assert table.list_instances(ORDERS) == ([instance()] if registered else [])


def test_memory_does_not_grow_with_arrivals_and_departures() -> None:
    table = LeaseTable()
    for ttl in range(5000):
        table.put(ORDERS, instance(ttl_seconds=3600 - ttl / 10))
        table.put(ORDERS, instance("b", ttl_seconds=3600))
        table.remove(ORDERS, "b")
    assert table.scheduled_checks < 100


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(1, 20)),
        st.tuples(st.just("renew"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("remove"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 15)),
    ),
    max_size=60,
)


@given(MOVES)
def test_the_table_agrees_with_a_plain_model(moves: list[tuple[str, str, int]]) -> None:
    clock = Clock()
    table = LeaseTable(clock=clock)
    model: dict[str, tuple[float, int]] = {}
    for move, instance_id, number in moves:
        match move:
            case "put":
                table.put(ORDERS, instance(instance_id, ttl_seconds=float(number)))
                model[instance_id] = (clock.now + number, number)
            case "renew" if instance_id in model:
                table.renew(ORDERS, instance_id)
                ttl = model[instance_id][1]
                model[instance_id] = (clock.now + ttl, ttl)
            case "remove":
                assert table.remove(ORDERS, instance_id) == (instance_id in model)
                model.pop(instance_id, None)
            case "wait":
                clock.now += number
                table.expire()
                model = {name: at for name, at in model.items() if at[0] > clock.now}
        assert ids(table) == sorted(model)
        assert len(table) == len(model)
        earliest = min((at for at, _ in model.values()), default=math.inf)
        assert (table.next_lapse() or math.inf) <= earliest


def test_when_too_many_lapse_at_once_they_are_kept_until_they_come_back_or_it_takes_too_long() -> (
    None
):
    clock = Clock()
    rules = SelfPreservation(share=0.5, least=1, window_seconds=30.0, longest_seconds=100.0)
    table = LeaseTable(clock=clock, preservation=rules)
    for name in "abcdefgh":
        table.put(ORDERS, instance(name, ttl_seconds=10))
    clock.now = 10.0
    assert table.expire() == 0
    assert table.preserving
    assert len(table) == 8
    for name in "abcd":
        table.renew(ORDERS, name)
    assert table.expire() == 4
    assert not table.preserving
    assert ids(table) == ["a", "b", "c", "d"]
    clock.now = 20.0
    table.put(ORDERS, instance("d", ttl_seconds=1000))
    assert table.expire() == 0  # half of all went within the window already
    assert table.preserving
    clock.now = 45.0
    assert table.expire() == 0
    clock.now = 120.0
    assert table.expire() == 3
    assert ids(table) == ["d"]


def test_a_few_may_always_lapse() -> None:
    clock = Clock()
    table = LeaseTable(clock=clock)
    for name in "abcdefghij":
        table.put(ORDERS, instance(name, ttl_seconds=10))
    clock.now = 10.0
    assert table.expire() == 10


def build_full_table(clock: Clock, names: str) -> LeaseTable:
    """All of these lapse at 10, which is more than may lapse at once."""
    rules = SelfPreservation(share=0.5, least=1, longest_seconds=100.0)
    table = LeaseTable(clock=clock, preservation=rules)
    for name in names:
        table.put(ORDERS, instance(name, ttl_seconds=10))
    return table


def test_an_overdue_instance_goes_once_a_replacement_renews() -> None:
    clock = Clock()
    table = build_full_table(clock, "abcdefgh")
    clock.now = 1.0
    for name in "stuv":
        table.put(ORDERS, instance(name, ttl_seconds=1000))
    clock.now = 10.0
    assert table.expire() == 0  # the new ones have not renewed yet
    assert table.preserving
    for name in "stuv":
        table.renew(ORDERS, name)
    assert table.expire() == 4 + 4  # four are replaced; the other four may lapse
    assert ids(table) == list("stuv")
    assert table.lapsed == 8


def test_each_replacement_takes_one_place() -> None:
    clock = Clock()
    table = build_full_table(clock, "abcdefgh")
    clock.now = 1.0
    table.put(ORDERS, instance("s", ttl_seconds=1000))
    clock.now = 10.0
    table.renew(ORDERS, "s")
    assert [table.expire(), table.expire()] == [1, 0]
    assert ids(table) == [*"bcdefgh", "s"]
    assert table.list_overdue(ORDERS) == frozenset("bcdefgh")


def test_those_who_were_there_before_replace_nobody() -> None:
    clock = Clock()
    table = LeaseTable(clock=clock, preservation=SelfPreservation(share=0.5, least=1))
    for name in "stuv":
        table.put(ORDERS, instance(name, ttl_seconds=1000))
    clock.now = 1.0
    for name in "abcdefgh":
        table.put(ORDERS, instance(name, ttl_seconds=10))
    clock.now = 11.0
    for name in "stuv":
        table.renew(ORDERS, name)
    assert table.expire() == 0
    assert len(table) == 12


def test_those_of_another_service_replace_nobody() -> None:
    clock = Clock()
    table = build_full_table(clock, "abcd")
    clock.now = 1.0
    table.put(ServiceKey("users"), instance("s", ttl_seconds=1000))
    clock.now = 10.0
    table.renew(ServiceKey("users"), "s")
    assert table.expire() == 0


def test_an_overdue_instance_is_marked_until_it_renews() -> None:
    changes: list[ServiceKey] = []
    clock = Clock()
    table = LeaseTable(
        clock=clock,
        preservation=SelfPreservation(share=0.5, least=1),
        on_change=changes.append,
    )
    for name in "abcd":
        table.put(ORDERS, instance(name, ttl_seconds=10))
    assert table.list_overdue(ORDERS) == frozenset()
    clock.now = 10.0
    changes.clear()
    table.expire()
    assert table.list_overdue(ORDERS) == frozenset("abcd")
    assert changes == [ORDERS] * 4
    table.expire()
    assert len(changes) == 4
    table.renew(ORDERS, "a")
    assert table.list_overdue(ORDERS) == frozenset("bcd")
    assert len(changes) == 5


def test_a_restored_instance_is_unconfirmed_until_it_renews_or_goes() -> None:
    table = LeaseTable()
    assert table.list_unconfirmed(ORDERS) == frozenset()
    for name in "abc":
        table.restore(ORDERS, instance(name))
    assert table.list_unconfirmed(ORDERS) == frozenset("abc")
    table.renew(ORDERS, "a")
    table.put(ORDERS, instance("b"))
    table.remove(ORDERS, "c")
    assert table.list_unconfirmed(ORDERS) == frozenset()


TIMES = st.lists(st.integers(0, 9), max_size=6)


@given(TIMES, TIMES)
def test_as_many_as_possible_are_replaced_and_never_by_an_older_one(
    overdue: list[int], candidates: list[int]
) -> None:
    old = [(float(at), f"old-{n}") for n, at in enumerate(overdue)]
    new = [(float(at), f"new-{n}") for n, at in enumerate(candidates)]
    pairs = match_replacements(old, new)
    renewed, registered = ({name: at for at, name in group} for group in (old, new))
    assert all(registered[after] > renewed[before] for before, after in pairs)
    assert len({before for before, _ in pairs}) == len({after for _, after in pairs}) == len(pairs)
    best = 0
    left = sorted(candidates)
    for at in sorted(overdue, reverse=True):  # the newest overdue one takes the newest candidate
        if left and left[-1] > at:
            left.pop()
            best += 1
    assert len(pairs) == best
