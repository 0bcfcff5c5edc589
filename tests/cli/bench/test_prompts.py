"""Prompts are reproducible, and different for each key."""

from ollama_tw.cli.bench.prompts import continued, prompt, words


def test_the_same_key_gives_the_same_words_on_every_machine() -> None:
    assert words(5, 7, "plain", 0) == "couple hand table girl ground"
    assert words(5, 7, "plain", 1) == "service age news night change"


def test_a_prompt_has_as_many_words_as_tokens_are_wanted() -> None:
    assert len(words(128, 1).split(" ")) == 128
    assert words(0, 1) == ""


def test_a_prompt_ends_with_a_count_to_carry_on() -> None:
    # 20 of the 24 tokens are the count's.
    asked = prompt(24, 7, "plain", 0)
    assert asked.endswith(" 1 2 3 4 5 6 7 8 9 10")
    assert len(asked.split(" ")) == 4 + 10
    assert len(prompt(5, 7).split(" ")) == 1 + 10


def test_a_shared_beginning_stays_as_it_is() -> None:
    one = continued("the common part", 23, 7, "own", 0)
    two = continued("the common part", 23, 7, "own", 1)
    assert one.startswith("the common part ")
    assert len(one.split(" ")) == 3 + 3 + 10
    assert one != two
