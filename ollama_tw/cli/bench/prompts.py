"""Reproducible prompts of a given length, a different one for each key.

Each word of the list is one token in the vocabularies of the usual models, so words are counted as tokens.
The lengths in reports are those that the servers report.
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
# A small model may end its reply to a list of words at once, but continues a count until it is stopped.
COUNT = "1 2 3 4 5 6 7 8 9 10"
COUNT_TOKENS = 20


def words(count: int, *key: object) -> str:
    """Return `count` words that depend on `key` only, and are the same on every machine."""
    chooser = random.Random("/".join(str(part) for part in key))  # noqa: S311 - reproducible on purpose
    return " ".join(chooser.choices(WORDS, k=count))


def prompt(tokens: int, *key: object) -> str:
    """Return a prompt of about `tokens` tokens, which ends with a count for the model to continue."""
    return f"{words(max(tokens - COUNT_TOKENS, 1), *key)} {COUNT}"


def continued(beginning: str, tokens: int, *key: object) -> str:
    """Return `beginning`, followed by a prompt of about `tokens` tokens."""
    return f"{beginning} {prompt(tokens, *key)}"
