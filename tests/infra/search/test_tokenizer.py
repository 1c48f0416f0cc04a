from __future__ import annotations

import pytest

from infra.search.text import QueryWord, index_words, query_words, tsquery, tsvector


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("保湿面霜", ["保湿", "湿面", "面霜", "霜"]),
        ("霜", ["霜"]),
        ("Crème BRÛLÉE", ["creme", "brulee"]),
        ("ＡＢＣ１２３", ["abc123"]),
        ("iPhone15 手机壳", ["iphone15", "手机", "机壳", "壳"]),
        ("50ml玻璃瓶", ["50ml", "玻璃", "璃瓶", "瓶"]),
        ("it's o'clock", ["it", "s", "o", "clock"]),
        ("snake_case-and/path", ["snake", "case", "and", "path"]),
        ("", []),
        ("!!! — 。", []),
        ("Straße", ["strasse"]),
        ("чай", ["чаи"]),
    ],
)
def test_words_of_a_document(text: str, words: list[str]) -> None:
    assert index_words(text) == words


def test_only_the_last_latin_word_may_be_unfinished() -> None:
    assert query_words("Moist crea") == [QueryWord("moist"), QueryWord("crea", prefix=True)]
    assert query_words("cream 面霜") == [QueryWord("cream"), QueryWord("面霜")]
    assert query_words("霜") == [QueryWord("霜", prefix=True)]
    assert len(query_words(" ".join(f"w{n}" for n in range(100)))) == 32


def test_quotes_and_backslashes_stay_inside_their_word() -> None:
    # Neither can be in a token of ours; the writer must not depend on that.
    assert tsquery([QueryWord("a'b\\"), QueryWord("c", prefix=True)], every=True) == "'a''b\\\\' & 'c':*"


def test_positions_and_weights_of_a_document() -> None:
    assert tsvector({"A": ["tea pot", "tea"], "C": ["pot"]}) == "'tea':1A,4A 'pot':2A,6C"
