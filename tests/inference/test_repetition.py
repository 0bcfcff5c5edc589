"""Cancel event of a run."""

import threading

from ollama_tw.inference.repetition import RunCancel


def test_a_run_is_cancelled_by_its_request_or_alone() -> None:
    request = threading.Event()
    one, other = RunCancel(request), RunCancel(request)
    assert not one.is_set()
    assert not one.wait(0.001)
    one.set()
    assert one.wait()
    assert not other.is_set()
    assert not request.is_set()
    waiting = threading.Thread(target=other.wait, daemon=True)
    waiting.start()
    request.set()
    waiting.join(30)
    assert not waiting.is_alive()
    assert other.is_set()
