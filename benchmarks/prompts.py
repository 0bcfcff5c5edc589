"""Prompts of a wanted length, the same for the same seed and never the same twice.

A word of the list is one token in the vocabularies of the usual models, so words stand for tokens here;
what a report says about lengths comes from the servers, never from this module.
"""

import random

WORD_LIST = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work number night point home water "
    "room mother area money story fact month lot right study book eye job word business issue side kind head "
    "house service friend father power hour game line end member law car city community name president team "
    "minute idea body information back parent face level office door health person art war history party "
    "result change morning reason research girl guy moment air teacher force education foot boy age policy "
    "music market sense nation plan college interest death experience effect use class control field "
    "development role effort rate heart drug show leader light voice wife police mind price report decision "
    "son view relationship town road arm difference value building action season society tax director "
    "position player record paper space ground form event matter center couple site project activity star "
    "table need court oil situation cost industry figure street image phone data picture practice piece land "
    "product doctor wall patient worker news test movie north love"
)
WORDS = WORD_LIST.split()
# Left with bare words a small model may end its reply at once; a count it carries on until it is stopped.
COUNT = "1 2 3 4 5 6 7 8 9 10"
COUNT_TOKENS = 20


def words(count: int, *key: object) -> str:
    """`count` words chosen by `key` alone: `words(5, 7, "plain", 0)` is the same on every machine."""
    chooser = random.Random("/".join(str(part) for part in key))
    return " ".join(chooser.choices(WORDS, k=count))


def prompt(tokens: int, *key: object) -> str:
    """A prompt of about `tokens` tokens, at least one word and the count that keeps the model going."""
    return f"{words(max(tokens - COUNT_TOKENS, 1), *key)} {COUNT}"


def continued(beginning: str, tokens: int, *key: object) -> str:
    """`beginning` and behind it a prompt of about `tokens` tokens."""
    return f"{beginning} {prompt(tokens, *key)}"
