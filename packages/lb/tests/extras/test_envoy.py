"""What needs the extra `xxhash`: rings and tables as Envoy and gRPC build them."""

from collections import Counter
from dataclasses import dataclass

from xxhash import xxh64_intdigest

from microservice_lb import Maglev, RingHash
from microservice_lb.maglev import fill_table


@dataclass(frozen=True)
class Host:
    instance_id: str
    weight: float = 1.0


def fleet(*weights: float) -> list[Host]:
    return [Host(f"10.0.0.{number}:80", weight) for number, weight in enumerate(weights)]


def test_envoy_ring_points_are_xxh64_of_name_and_number() -> None:
    ring = RingHash[Host](compatible="envoy", replicas=10)
    ring.update(fleet(1, 1, 1))
    expected = sorted(
        (xxh64_intdigest(f"{host.instance_id}_{number}".encode()), host.instance_id)
        for host in fleet(1, 1, 1)
        for number in range(10)
    )
    assert [(position, host.instance_id) for position, host in ring.points] == expected


def test_envoy_ring_keys_are_xxh64_and_go_to_the_first_point_at_or_after() -> None:
    ring = RingHash[Host](compatible="envoy", replicas=50)
    ring.update(fleet(1, 1, 1))
    for number in range(200):
        position = xxh64_intdigest(f"user:{number}".encode())
        owner = next((h for p, h in ring.points if p >= position), ring.points[0][1])
        assert ring.pick(f"user:{number}") is owner


def test_envoy_ring_shares_are_by_weight_and_sum_up_exactly() -> None:
    ring = RingHash[Host](compatible="envoy", replicas=100)
    ring.update(fleet(3, 2, 1))
    counts = Counter(host.instance_id for _, host in ring.points)
    assert [counts[host.instance_id] for host in fleet(3, 2, 1)] == [150, 100, 50]
    ring.update(fleet(1, 1e-6, 2))
    assert len(ring.points) == 300


def test_envoy_maglev_table_claims_by_xxh64_with_seeds_0_and_1() -> None:
    table = Maglev[Host](compatible="envoy", table_size=251)
    hosts = fleet(1, 3, 2)
    table.update(hosts[::-1])
    names = sorted(host.instance_id.encode() for host in hosts)
    steps = [(xxh64_intdigest(n) % 251, xxh64_intdigest(n, 1) % 250 + 1) for n in names]
    owners = fill_table(251, steps, [1, 3, 2])
    assert [host.instance_id.encode() for host in table.table] == [names[o] for o in owners]
    key = "user:7"
    assert table.pick(key) is table.table[xxh64_intdigest(key.encode()) % 251]


def test_xxh64_serves_other_rings_with_its_upper_half() -> None:
    ring = RingHash[Host](hash="xxh64")
    ring.update(fleet(1, 1))
    position = xxh64_intdigest(b"user:1") >> 32
    owner = next((h for p, h in ring.points if p >= position), ring.points[0][1])
    assert ring.pick("user:1") is owner
    assert repr(ring) == "RingHash(replicas=160, compatible=None, hash='xxh64')"
