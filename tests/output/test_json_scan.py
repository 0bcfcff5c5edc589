import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.output.json_scan import JsonScanner, Scan


@pytest.mark.parametrize(
    ("text", "outcome", "end"),
    [
        ('{"a": [1, {"b": "}"}], "c": null} tail', Scan.DONE, 33),
        ("{}", Scan.DONE, 2),
        ("[ ]]", Scan.DONE, 3),
        ('{"a\\"}": "line\nbreak"}', Scan.DONE, 22),
        ('{"a": "\\', Scan.MORE, 8),
        ('{"a": 12', Scan.MORE, 8),
        ("{{", Scan.BROKEN, 1),
        ("{ x", Scan.BROKEN, 2),
        ('{"a" 1', Scan.BROKEN, 5),
        ('{"a": 1 2', Scan.BROKEN, 8),
        ('{"a": 1,}', Scan.BROKEN, 8),
        ('{"a": 1]', Scan.BROKEN, 7),
        ("[1,]", Scan.BROKEN, 3),
        ("[}", Scan.BROKEN, 1),
        ('{"a":' * 201, Scan.BROKEN, 1000),
    ],
)
def test_it_stops_at_the_end_or_at_the_first_error(text: str, outcome: Scan, end: int) -> None:
    assert JsonScanner().feed(text, 0) == (outcome, end)
    scanner = JsonScanner()
    for position in range(len(text)):
        found = scanner.feed(text[: position + 1], position)
        if found[0] is not Scan.MORE:
            break
    assert found == (outcome, end)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=6)),
    st.sampled_from([None, 2]),
)
def test_every_object_is_read_to_its_end(value: dict[str, object], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert JsonScanner().feed(text + "}", 0) == (Scan.DONE, len(text))
