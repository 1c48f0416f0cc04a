"""One tokenizer for every engine: words of alphabets, bigrams of Chinese, Japanese and Korean.

Text is NFKC-normalised (full-width forms become plain), case-folded and loses its accents. A run of CJK
characters gives its overlapping pairs; its last character stands alone too, so that one character finds any
run that has it: in front of a pair as that pair's prefix, at the end as itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MOST_QUERY_WORDS = 32
LONGEST_WORD = 64
_LAST_POSITION = 16_383
_MOST_POSITIONS = 255

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff"
_RUN = re.compile(rf"(?P<cjk>[{_CJK}]+)|(?P<word>(?:(?![{_CJK}])[^\W_])+)")


@dataclass(frozen=True, slots=True)
class QueryWord:
    text: str
    prefix: bool = False
    """Matches every word that begins with it: the reader may not have finished typing."""


def normalised(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    if folded.isascii():
        return folded
    apart = unicodedata.normalize("NFD", folded)
    bare = "".join(c for c in apart if not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFC", bare)


def index_words(text: str) -> list[str]:
    """The words of a document's text, in order."""
    words: list[str] = []
    for run in _RUN.finditer(normalised(text)):
        if run["cjk"]:
            words += _bigrams(run["cjk"])
            words.append(run["cjk"][-1])
        else:
            words.append(run["word"][:LONGEST_WORD])
    return words


def query_words(text: str) -> list[QueryWord]:
    """What a reader's text asks for; at most 32. The last Latin word may be unfinished."""
    words: list[QueryWord] = []
    for run in _RUN.finditer(normalised(text)):
        if not run["cjk"]:
            words.append(QueryWord(run["word"][:LONGEST_WORD]))
        elif len(run["cjk"]) == 1:
            words.append(QueryWord(run["cjk"], prefix=True))
        else:
            words += map(QueryWord, _bigrams(run["cjk"]))
    words = list(dict.fromkeys(words))[:MOST_QUERY_WORDS]
    if words and len(words[-1].text) > 1 and not re.match(f"[{_CJK}]", words[-1].text):
        words[-1] = QueryWord(words[-1].text, prefix=True)
    return words


def _bigrams(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]


def tsvector(fields: Mapping[str, Iterable[str]]) -> str:
    """Texts by weight (``A`` to ``D``) in the text form of PostgreSQL's ``tsvector``."""
    places: dict[str, list[str]] = {}
    position = 1
    for weight, texts in fields.items():
        for text in texts:
            for word in index_words(text):
                at = places.setdefault(word, [])
                if len(at) < _MOST_POSITIONS:
                    at.append(f"{min(position, _LAST_POSITION)}{weight}")
                position += 1
            position += 1  # words of two texts do not stand beside one another
    return " ".join(f"{_quoted(word)}:{','.join(at)}" for word, at in places.items())


def tsquery(words: Iterable[QueryWord], *, every: bool) -> str:
    """In the text form of ``tsquery``: all of the words, or any."""
    return (" & " if every else " | ").join(_quoted(w.text) + (":*" if w.prefix else "") for w in words)


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
