import tomllib

from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.configfile.lines import line_numbers

TEXT = '''\
# comment
a = 1

b = """
x
c = 2
"""
list = [
  1, # one
  2,
]
[t]

d.e = 3
inline = { f = 4 }
["quoted name".g]
h = 5
[[array]]
i = 6
'''


def test_lines_of_all_kinds_of_keys() -> None:
    assert line_numbers(TEXT) == {
        ("a",): 2,
        ("b",): 4,
        ("list",): 8,
        ("t",): 12,
        ("t", "d"): 14,
        ("t", "d", "e"): 14,
        ("t", "inline"): 15,
        ("t", "inline", "f"): 15,
        ("quoted name",): 16,
        ("quoted name", "g"): 16,
        ("quoted name", "g", "h"): 17,
        ("array",): 18,
    }


@given(
    st.lists(
        st.sampled_from(["", "# c", "{k} = 1", '{k} = """\n\n"""', "[{k}]", "{k} = [\n1,\n]"]), max_size=9
    )
)
def test_the_line_of_a_key_has_the_key(templates: list[str]) -> None:
    text = "\n".join(template.replace("{k}", f"k{n}") for n, template in enumerate(templates))
    lines = text.split("\n")
    numbers = line_numbers(text)
    for path, number in numbers.items():
        assert path[-1] in lines[number - 1]
    assert {path[0] for path in numbers} == set(tomllib.loads(text))
