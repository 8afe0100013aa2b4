import gc
import math
import os
import random
import subprocess
import sys
import tracemalloc
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uhashring import HashRing  # type: ignore[import-untyped]

from microservice_core import InvalidValueError, NoInstanceAvailableError
from microservice_lb import (
    Balancer,
    BoundedLoad,
    ConsistentHash,
    Maglev,
    Rendezvous,
    RingHash,
    create,
    keyed_hash,
)
from microservice_lb.maglev import fill_table

Fleet = Callable[..., list[Any]]
Make = Callable[..., ConsistentHash[Any]]

KEYS = [f"user:{number}" for number in range(4000)]
SECRET = b"0123456789abcdef"
KINDS: list[Make] = [
    RingHash,
    lambda **options: RingHash(compatible="ketama", **options),
    lambda **options: Maglev(table_size=5003, **options),
    Rendezvous,
]
IDS = ["ring", "ketama", "maglev", "rendezvous"]


@pytest.fixture(params=KINDS, ids=IDS, scope="session")
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


def homes(balancer: ConsistentHash[Any], keys: list[str] = KEYS) -> dict[str, str]:
    return {key: balancer.pick(key).instance_id for key in keys}


def build(make: Make, hosts: list[Any], **options: Any) -> ConsistentHash[Any]:
    balancer = make(**options)
    balancer.update(hosts)
    return balancer


def test_a_key_always_goes_to_the_same_endpoint(make: Make, fleet: Fleet) -> None:
    assert homes(build(make, fleet(12))) == homes(build(make, fleet(12)[::-1]))


def test_bytes_are_the_same_key_as_their_text(make: Make, fleet: Fleet) -> None:
    balancer = build(make, fleet(12))
    for key in KEYS[:50]:
        assert balancer.pick(key.encode()) is balancer.pick(key)
        assert balancer.pick(bytearray(key.encode())) is balancer.pick(key)  # type: ignore[arg-type]


def test_without_a_key_the_pick_is_random(make: Make, fleet: Fleet) -> None:
    balancer = build(make, fleet(4), rng=random.Random(1))
    counts = Counter(balancer.pick().instance_id for _ in range(2000))
    assert all(300 < counts[name] < 750 for name in "abcd")


def test_other_kinds_of_keys_are_refused(make: Make, fleet: Fleet) -> None:
    with pytest.raises(InvalidValueError, match="key must be a str, bytes or None, not 7"):
        build(make, fleet(2)).pick(7)  # type: ignore[arg-type]


@given(size=st.integers(2, 25), gone=st.integers(0, 24))
@settings(max_examples=15)
def test_only_keys_of_the_endpoint_that_left_move(
    make: Make, fleet: Fleet, size: int, gone: int
) -> None:
    hosts = fleet(size)
    balancer = build(make, hosts)
    before = homes(balancer, KEYS[:1000])
    left = hosts.pop(gone % size).instance_id
    balancer.update(hosts)
    after = homes(balancer, KEYS[:1000])
    moved = [key for key in before if before[key] != after[key]]
    extra = [key for key in moved if before[key] != left]
    assert {before[key] for key in moved} >= ({left} if left in before.values() else set())
    if isinstance(balancer, Maglev):
        assert len(extra) <= 0.12 * len(before)  # "about twice the moves of a ring", Envoy's docs
    else:
        assert extra == []


@pytest.mark.parametrize("size", [10, 50])
def test_at_most_its_share_and_a_bit_moves_to_a_new_endpoint(
    make: Make, fleet: Fleet, size: int
) -> None:
    balancer = build(make, fleet(size))
    before = homes(balancer)
    balancer.update(fleet(size + 1))
    after = homes(balancer)
    moved = sum(before[key] != after[key] for key in KEYS) / len(KEYS)
    assert moved <= 1 / (size + 1) + 0.06


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        (RingHash(), 1.45),
        (RingHash(replicas=640), 1.25),
        (RingHash(compatible="ketama"), 1.45),
        (Maglev(), 1.03),
        (Rendezvous(), 1.15),
    ],
    ids=["ring", "ring of 640", "ketama", "maglev", "rendezvous"],
)
def test_the_busiest_has_little_more_than_the_mean(
    fleet: Fleet, kind: ConsistentHash[Any], bound: float
) -> None:
    kind.update(fleet(20))
    spread = random.Random(5)
    keys = [str(spread.getrandbits(64)) for _ in range(60_000 if bound < 1.1 else 20_000)]
    counts = Counter(homes(kind, keys).values())
    assert max(counts.values()) / (len(keys) / 20) < bound + 0.06


def test_keys_in_sequence_spread_like_random_ones(fleet: Fleet) -> None:
    balancer = build(Maglev, fleet(20))
    counts = Counter(homes(balancer, [f"order-{number}" for number in range(20_000)]).values())
    expected = 1000
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 65


def test_weights_are_honoured(make: Make, fleet: Fleet) -> None:
    balancer = build(make, fleet([4, 2, 1, 1, 8]))
    counts = Counter(homes(balancer).values())
    for name, share in zip("abcde", [4, 2, 1, 1, 8], strict=True):
        assert counts[name] / len(KEYS) == pytest.approx(share / 16, abs=0.045)


def test_candidates_are_everybody_once_beginning_with_the_pick(make: Make, fleet: Fleet) -> None:
    balancer = build(make, fleet(9))
    for key in KEYS[:30]:
        order = list(balancer.candidates(key))
        assert order[0] is balancer.pick(key)
        assert sorted(host.instance_id for host in order) == list("abcdefghi")


def test_excluding_goes_on_in_the_order_of_the_key(make: Make, fleet: Fleet) -> None:
    balancer = build(make, fleet(9))
    for key in KEYS[:30]:
        order = [host.instance_id for host in balancer.candidates(key)]
        assert balancer.pick(key, order[:3]).instance_id == order[3]


def test_the_same_in_processes_of_different_hash_seeds() -> None:
    code = (
        "from microservice_lb import *; from dataclasses import dataclass, field\n"
        "@dataclass(frozen=True)\n"
        "class Host:\n instance_id: str; weight: float = 1.0\n"
        "hosts = [Host(f'10.0.0.{n}', 1.0 + n % 3) for n in range(9)]\n"
        "for b in [RingHash(), RingHash(compatible='ketama'), Maglev(), Rendezvous(),\n"
        "          Maglev(hash=keyed_hash(b'0123456789abcdef')), RingHash(hash='blake2b')]:\n"
        "    b.update(set(hosts))\n"
        "    print([b.pick(f'user:{n}').instance_id for n in range(200)])\n"
    )
    heard = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(heard) == 1
    assert heard.pop().count("10.0.0.") == 1200


# --- the ring


def test_points_are_sorted_and_a_key_belongs_to_the_next(fleet: Fleet) -> None:
    balancer = RingHash[Any](hash=int)
    balancer.update(fleet(3))
    points = balancer.points
    positions = [position for position, _ in points]
    assert positions == sorted(positions)
    assert len(points) == 3 * 160
    for position, owner in points[1:50]:
        assert balancer.pick(str(position)) is owner
        assert balancer.pick(str(position - 1)) is owner
    assert balancer.pick(str(positions[-1] + 1)) is points[0][1]


@given(
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    keys=st.lists(st.text(min_size=1), min_size=1, max_size=20),
)
def test_ketama_agrees_with_uhashring(fleet: Fleet, weights: list[int], keys: list[str]) -> None:
    balancer = RingHash[Any](compatible="ketama")
    balancer.update(fleet(weights))
    names = {host.instance_id: int(host.weight) for host in fleet(weights)}
    theirs = HashRing(names, hash_fn="ketama")
    assert [balancer.pick(key).instance_id for key in keys] == [theirs.get_node(k) for k in keys]
    assert {(p, e.instance_id) for p, e in balancer.points} == set(theirs.get_points())


@given(
    updates=st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 1.0, 1.0, 2.5]), max_size=7), min_size=2, max_size=6
    )
)
@settings(max_examples=40)
def test_a_ring_changed_step_by_step_equals_one_built_at_once(
    fleet: Fleet, updates: list[list[float]]
) -> None:
    stepwise = RingHash[Any](replicas=40)
    for weights in updates:
        stepwise.update(fleet(weights))
        at_once = RingHash[Any](replicas=40)
        at_once.update([*fleet(weights), *fleet(60)[40:]])
        at_once.update(fleet(weights))
        fresh = RingHash[Any](replicas=40)
        fresh.update(fleet(weights))
        assert stepwise.points == at_once.points == fresh.points
        for ring in (stepwise, fresh):
            assert_picks_follow_the_points(ring)


def assert_picks_follow_the_points(ring: RingHash[Any]) -> None:
    positions = [position for position, _ in ring.points]
    for key in KEYS[:60] if positions else []:
        place = bisect_left(positions, zlib.crc32(key.encode())) % len(positions)
        assert ring.pick(key) is ring.points[place][1]


def test_a_ring_that_grows_and_shrinks_by_one_finds_every_key(fleet: Fleet) -> None:
    ring = RingHash[Any](replicas=8)
    for size in [*range(1, 40), *range(40, -1, -3)]:
        ring.update(fleet(size))
        assert_picks_follow_the_points(ring)


def test_hashes_beyond_the_circle_belong_to_the_first_point(fleet: Fleet) -> None:
    ring = RingHash[Any](hash=lambda key: 1 << 40)
    ring.update(fleet(3))
    assert ring.pick("key") is ring.points[0][1]


def test_points_that_collide_belong_to_the_lowest_id_whatever_came_first(fleet: Fleet) -> None:
    class Crowded(RingHash[Any]):
        """Everybody has the same points, so every one of them is a collision."""

        def __init__(self) -> None:
            super().__init__(replicas=4, hash=int)
            self._points = lambda instance_id, count: [10, 20, 30, 40]

    forth, back = Crowded(), Crowded()
    for host in fleet(3):
        forth.update([*forth.endpoints, host])
    for host in fleet(3)[::-1]:
        back.update([*back.endpoints, host])
    many = Crowded()
    many.update([*fleet(3), *fleet(60)[30:]])
    many.update(fleet(3))
    assert forth.points == back.points == many.points
    assert forth.pick("15").instance_id == "a"
    forth.update(fleet(3)[1:])
    assert forth.pick("15").instance_id == "b"


def test_every_weight_has_a_point_unless_ketama_says_otherwise(fleet: Fleet) -> None:
    ours, theirs = RingHash[Any](), RingHash[Any](compatible="ketama")
    for balancer in (ours, theirs):
        balancer.update(fleet([1000, 1]))
    assert Counter(e.instance_id for _, e in ours.points)["b"] == 4
    assert Counter(e.instance_id for _, e in theirs.points)["b"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": 0}, "replicas must be a multiple of 4"),
        ({"replicas": 6}, "replicas must be a multiple of 4"),
        ({"compatible": "nginx"}, "compatible must be"),
        ({"hash": "sha0"}, "hash must be a callable or one of crc32, md5, blake2b, xxh64"),
    ],
    ids=str,
)
def test_ring_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        RingHash(**options)


# --- Maglev


def test_the_table_of_the_paper() -> None:
    steps = [(3, 4), (0, 2), (3, 1)]
    assert fill_table(7, steps, [1, 1, 1]) == [1, 0, 1, 0, 2, 2, 0]
    assert fill_table(7, [steps[0], steps[2]], [1, 1]) == [0, 0, 0, 0, 1, 1, 1]


def test_the_table_has_everybody_s_share_within_one_turn(fleet: Fleet) -> None:
    balancer = Maglev[Any](table_size=1009)
    balancer.update(fleet([1, 2, 3, 4]))
    counts = Counter(host.instance_id for host in balancer.table)
    assert len(balancer.table) == 1009
    for name, weight in zip("abcd", [1, 2, 3, 4], strict=True):
        assert abs(counts[name] - 1009 * weight / 10) <= 2


def test_the_full_table_takes_less_than_a_megabyte(fleet: Fleet) -> None:
    balancer, hosts = Maglev[Any](), fleet(100)
    tracemalloc.start()
    try:
        balancer.update(hosts)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 1 << 20
    assert len(balancer.table) == 65537


def test_an_update_of_labels_reaches_the_table() -> None:
    class Host:
        def __init__(self, label: str) -> None:
            self.instance_id, self.weight, self.label = "a", 1.0, label

    balancer = Maglev[Any](table_size=7)
    balancer.update([Host("old")])
    balancer.update([Host("new")])
    assert balancer.pick("key").label == "new"


def test_weights_beyond_all_sums_still_fill_the_table(fleet: Fleet) -> None:
    balancer = Maglev[Any](table_size=101)
    balancer.update(fleet([1.7e308, 1.7e308, 1e-300]))
    assert abs(Counter(h.instance_id for h in balancer.table)["a"] - 50) <= 2
    assert sorted(h.instance_id for h in balancer.candidates("k")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table_size": 65536}, "table_size must be a prime"),
        ({"table_size": 2}, "table_size must be a prime"),
        ({"table_size": 9}, "table_size must be a prime"),
        ({"table_size": 10}, "table_size must be a prime"),
        ({"table_size": 25}, "table_size must be a prime"),
        ({"table_size": 5_000_077}, "table_size must be a prime from 3 to 5000011"),
        ({"compatible": "ketama"}, "compatible must be"),
    ],
    ids=str,
)
def test_maglev_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Maglev(**options)


def test_more_endpoints_than_places_are_refused_and_nothing_changes(fleet: Fleet) -> None:
    balancer = Maglev[Any](table_size=3)
    balancer.update(fleet(3))
    with pytest.raises(InvalidValueError, match=r"at most table_size \(3\), not 4"):
        balancer.update(fleet(4))
    assert len(balancer.endpoints) == 3


# --- keys that clients choose


def test_a_keyed_hash_depends_on_its_secret_and_on_nothing_else(fleet: Fleet) -> None:
    first, again = keyed_hash(SECRET), keyed_hash(SECRET)
    other = keyed_hash(SECRET[::-1])
    assert first(b"key") == again(b"key") != other(b"key")
    assert homes(build(RingHash, fleet(9), hash=first)) != homes(
        build(RingHash, fleet(9), hash=other)
    )
    counts = Counter(first(str(n).encode()) >> 28 for n in range(16_000))
    assert all(abs(count - 1000) < 200 for count in counts.values())


@pytest.mark.parametrize("secret", [b"short", b"x" * 33])
def test_a_secret_of_the_wrong_length_is_refused_without_showing_it(secret: bytes) -> None:
    with pytest.raises(InvalidValueError, match="secret must be 16 to 32 bytes") as caught:
        keyed_hash(secret)
    assert secret.decode() not in str(caught.value)


def test_secrets_do_not_show_in_the_repr() -> None:
    assert repr(RingHash(hash=keyed_hash(SECRET))).endswith("hash='<callable>')")
    assert repr(Rendezvous(hash="md5")) == "Rendezvous(hash='md5')"


# --- bounded load


@pytest.mark.parametrize("factor", [1.1, 1.25, 2.0])
def test_nobody_has_more_than_factor_times_its_share(fleet: Fleet, factor: float) -> None:
    balancer = BoundedLoad(build(RingHash, fleet([2, 1, 1])), factor=factor)
    leases = []
    for number in range(200):
        leases.append(balancer.acquire("the hot key" if number % 2 else f"key {number}"))
        for name, weight in zip("abc", [2, 1, 1], strict=True):
            assert balancer.active(name) <= math.ceil(factor * len(leases) * weight / 4)


def test_without_pressure_every_key_stays_at_home(fleet: Fleet) -> None:
    inner = build(RingHash, fleet(5))
    balancer = BoundedLoad(build(RingHash, fleet(5)))
    for key in KEYS[:100]:
        with balancer.acquire(key) as lease:
            assert lease.endpoint == inner.pick(key)
    assert balancer.active("a") == 0


def test_a_released_call_makes_room_at_home_again(fleet: Fleet) -> None:
    balancer = BoundedLoad(build(Maglev, fleet(4)), factor=1.25)
    home = balancer.pick("hot").instance_id
    first = balancer.acquire("hot")
    second = balancer.acquire("hot")
    assert (first.endpoint.instance_id == home) != (second.endpoint.instance_id == home)
    first.release()
    first.release()
    second.release()
    assert balancer.pick("hot").instance_id == home


def test_bounded_load_honours_the_contract(fleet: Fleet) -> None:
    balancer: Balancer[Any] = create("ring", bounded_load=1.5)
    with pytest.raises(NoInstanceAvailableError):
        balancer.pick("key")
    balancer.update(fleet([1, 0, 1]))
    assert {balancer.pick(key).instance_id for key in KEYS[:99]} == {"a", "c"}
    assert {balancer.pick(key, {"a"}).instance_id for key in KEYS[:99]} == {"c"}
    with pytest.raises(NoInstanceAvailableError):
        balancer.pick("key", {"a", "c"})
    leases = [balancer.acquire("key", {"a"}) for _ in range(9)]
    assert {lease.endpoint.instance_id for lease in leases} == {"c"}
    assert [host.instance_id for host in balancer.endpoints] == ["a", "b", "c"]
    assert "room for" in str(balancer.explain("key"))


@pytest.mark.parametrize("factor", [1.0, 0.5, float("nan"), float("inf")])
def test_a_factor_that_bounds_nothing_is_refused(factor: float) -> None:
    with pytest.raises(InvalidValueError, match="factor must be a finite number above 1"):
        BoundedLoad(RingHash(), factor=factor)


def test_only_hash_balancers_take_a_bound() -> None:
    with pytest.raises(InvalidValueError, match="omitted for 'rr'"):
        create("rr", bounded_load=1.25)


@pytest.mark.parametrize("name", ["crc32", "md5", "blake2b"])
def test_hashes_go_by_name_and_each_spreads_the_keys(fleet: Fleet, name: str) -> None:
    counts = Counter(homes(build(Maglev, fleet(4), hash=name)).values())
    assert all(800 < count < 1200 for count in counts.values())


EQUAL, MIXED = [1.0] * 20, [1.0 + number % 3 for number in range(20)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (EQUAL, [0, *EQUAL[1:]]),
        (EQUAL, [2, *EQUAL[1:]]),
        (EQUAL, [10, *EQUAL[1:]]),
        (EQUAL, [0.1, *EQUAL[1:]]),
        (MIXED, [0, *MIXED[1:]]),
        ([3, *MIXED], [0, *MIXED]),
        ([100 * weight for weight in MIXED], [150, *(100 * weight for weight in MIXED[1:])]),
    ],
    ids=["drained", "doubled", "tenfold", "slow start", "light gone", "heavy gone", "hundreds"],
)
@pytest.mark.parametrize("make", [RingHash, Rendezvous], ids=["ring", "rendezvous"])
def test_a_change_of_one_weight_moves_no_key_between_the_others(
    make: Make, fleet: Fleet, before: list[float], after: list[float]
) -> None:
    balancer = make()
    keys = [f"user:{number}" for number in range(5000)]
    balancer.update(fleet(before))
    old = [balancer.pick(key).instance_id for key in keys]
    balancer.update(fleet(after))
    new = [balancer.pick(key).instance_id for key in keys]
    assert all(was == now for was, now in zip(old, new, strict=True) if "a" not in {was, now})


@dataclass
class Weighted:
    instance_id: str
    weight: float


@given(
    weights=st.lists(st.floats(1, 8, exclude_max=True), min_size=1, max_size=9),
    scale=st.sampled_from([8**-5, 1 / 8, 1, 8, 8**9]),
)
def test_points_depend_on_the_weights_proportions_only(weights: list[float], scale: float) -> None:
    one, other = RingHash[Any](), RingHash[Any]()
    hosts = [Weighted(f"h{number}", weight) for number, weight in enumerate(weights)]
    one.update(hosts)
    other.update(hosts, weights=[weight * scale for weight in weights])
    assert one.points == other.points
    counts = Counter(host.instance_id for _, host in one.points)
    for host in hosts:
        assert abs(counts[host.instance_id] - 160 * host.weight) <= 2
