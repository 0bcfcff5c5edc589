from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.engine import fair_queue
from ollama_tw.engine.fair_queue import PATIENCE, Entry, FairQueue
from ollama_tw.tracking.priority import Priority

LOW, NORMAL, HIGH = Priority


class Clients:
    """A queue of requests that are named by their clients and numbers: ``a1``, ``a2``."""

    def __init__(self) -> None:
        self.queue: FairQueue[str] = FairQueue()
        self.now = 0.0
        self._counts: dict[str, int] = {}

    @property
    def waiting(self) -> list[Entry[str]]:
        return list(self.queue.order(self.now))

    def wait(self, client: str, count: int = 1, priority: Priority = NORMAL) -> list[Entry[str]]:
        return [self._wait(client, priority) for _ in range(count)]

    def _wait(self, client: str, priority: Priority) -> Entry[str]:
        number = self._counts[client] = self._counts.get(client, 0) + 1
        return self.queue.add(f"{client}{number}", client, priority, self.now)

    def serve(self, count: int = 1) -> str:
        served = [self.queue.take(self.now, lambda item: True) for _ in range(count)]
        return " ".join(entry.item for entry in served if entry is not None)

    def order(self) -> str:
        return " ".join(entry.item for entry in self.queue.order(self.now))


def test_one_client_is_served_in_order() -> None:
    clients = Clients()
    clients.wait("a", 4)
    assert clients.order() == "a1 a2 a3 a4"
    assert clients.serve(5) == "a1 a2 a3 a4"
    assert clients.waiting == []


def test_a_hundred_of_one_client_delay_another_by_one() -> None:
    clients = Clients()
    clients.queue.served("a", NORMAL, 0)
    clients.wait("a", 99)
    clients.wait("b")
    assert clients.serve() == "b1"
    clients.serve(40)
    clients.wait("b")
    # It follows at once, whenever it comes.
    assert clients.serve() == "b2"


def test_clients_take_turns() -> None:
    clients = Clients()
    clients.wait("a", 4)
    clients.wait("b", 2)
    clients.wait("c", 3)
    assert clients.serve(9) == "a1 b1 c1 a2 b2 c2 a3 c3 a4"


def test_clients_that_come_back_at_once_do_not_starve_one_that_waits() -> None:
    clients = Clients()
    clients.wait("a", 50)
    served: list[str] = []
    for _ in range(30):
        for client in "bc":
            if client not in {entry.client for entry in clients.waiting}:
                clients.wait(client)
        served.append(clients.serve()[0])
    assert min(served.count(client) for client in "abc") == 10


def test_a_client_is_not_charged_for_requests_that_it_cancelled() -> None:
    clients = Clients()
    cancelled = clients.wait("a", 100)
    for entry in cancelled:
        clients.queue.remove(entry)
    clients.wait("b", 2)
    clients.wait("a")
    assert clients.serve(3) == "b1 a101 b2"


def test_a_client_is_charged_for_what_did_not_wait() -> None:
    clients = Clients()
    clients.queue.served("a", NORMAL, 0)
    clients.queue.served("a", NORMAL, 0)
    clients.wait("a", 2)
    clients.wait("b", 2)
    assert clients.order() == "b1 a1 b2 a2"


def test_what_cannot_run_is_passed_over_and_keeps_its_turn() -> None:
    clients = Clients()
    clients.wait("a", 3)
    clients.wait("b", 3)
    found = clients.queue.take(0, lambda item: item == "b2")
    assert found is not None
    assert found.item == "b2"
    assert clients.serve(5) == "a1 b1 a2 b3 a3"


def test_higher_priorities_come_first_in_turns_of_their_own() -> None:
    clients = Clients()
    clients.wait("a", 2, LOW)
    clients.wait("b", 2)
    clients.wait("c", 2, HIGH)
    clients.wait("d", 1, HIGH)
    assert clients.serve(7) == "c1 d1 c2 b1 b2 a1 a2"


def test_a_low_priority_is_served_in_time() -> None:
    clients = Clients()
    clients.wait("a", 3, LOW)
    clients.wait("b", 1000)
    served: list[str] = []
    while len(served) < 100:
        served.append(clients.serve())
        clients.now += 1
    late = [second for second, item in enumerate(served) if item.startswith("a")]
    assert late == [PATIENCE, 2 * PATIENCE, 3 * PATIENCE]


def test_normal_and_low_are_both_served_in_time() -> None:
    clients = Clients()
    clients.wait("a", 3, LOW)
    clients.wait("b", 3)
    clients.wait("c", 1000, HIGH)
    clients.now = PATIENCE
    assert clients.serve(3) == "b1 a1 c1"
    clients.now = 2 * PATIENCE - 1
    assert clients.serve() == "c2"


def test_a_request_is_not_overdue_before_it_has_waited() -> None:
    clients = Clients()
    clients.now = 1000
    clients.wait("a", 1, LOW)
    clients.wait("b")
    assert clients.order() == "b1 a1"


def test_the_memory_of_clients_is_bounded() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(10 * fair_queue._MAX_CLIENTS):
        queue.served(f"10.0.{number}", NORMAL, 0)
    assert len(queue._levels[NORMAL].clients) == fair_queue._MAX_CLIENTS


@given(st.lists(st.sampled_from("aabbc"), max_size=30))
def test_the_order_is_that_of_the_services(arrivals: list[str]) -> None:
    clients = Clients()
    for client in arrivals:
        clients.wait(client)
        if client == "c":
            clients.serve()
    order = clients.order()
    assert clients.serve(len(arrivals)) == order


@given(st.lists(st.one_of(st.sampled_from("abcd"), st.just("")), max_size=60))
def test_nobody_waits_for_more_than_one_request_of_each_other_client(steps: list[str]) -> None:
    """A letter is an arrival, "" a service. All requests that wait are then served."""
    clients = Clients()
    waited: dict[str, list[str]] = {}
    for step in steps + [""] * len(steps):
        if step:
            (entry,) = clients.wait(step)
            if not any(other.client == step for other in clients.waiting if other is not entry):
                waited[entry.item] = []
        elif item := clients.serve():
            for others in waited.values():
                others.append(item[0])
            others = waited.pop(item, [])
            assert all(others.count(client) <= 1 for client in set(others)), (item, others)
