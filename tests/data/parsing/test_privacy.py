import hashlib
import hmac
import pickle

import polars as pl
import pytest

from tfrec.config import Privacy
from tfrec.data.parsing.privacy import (
    Pseudonymiser,
    pseudonym,
    pseudonym_stamp,
    pseudonymiser,
)
from tfrec.errors import DataError

KEY = "an example of a key, not a secret"
PRIVACY = Privacy(pseudonym_key="MY_KEY")


def test_pseudonym_is_the_hmac_of_the_id():
    expected = hmac.new(KEY.encode(), "Jürgen 7".encode(), hashlib.sha256).hexdigest()[:32]
    assert pseudonym("Jürgen 7", KEY.encode()) == expected


def test_pseudonym_equals_the_published_vector():
    # RFC 4231, test case 2.
    assert pseudonym("what do ya want for nothing?", b"Jefe") == "5bdcc146bf60754e6a042426089575c7"


def test_pseudonymiser_replaces_each_id_and_keeps_nulls():
    replace = pseudonymiser(PRIVACY, {"MY_KEY": KEY})
    assert replace is not None
    found = replace(pl.Series(["b", "a", None, "b"]))
    a, b = (pseudonym(user_id, KEY.encode()) for user_id in "ab")
    assert (found.dtype, found.to_list()) == (pl.String, [b, a, None, b])


@pytest.mark.parametrize("ids", [[], [None, None]])
def test_pseudonymiser_takes_series_without_ids(ids: list):
    replace = Pseudonymiser(KEY.encode())
    assert replace(pl.Series(ids, dtype=pl.String)).to_list() == ids


def test_pseudonyms_differ_between_keys_and_ids():
    ids = pl.Series([str(number) for number in range(1000)])
    one, two = (Pseudonymiser(key)(ids) for key in (b"first key of many", b"second key of many"))
    assert pl.concat([one, two]).n_unique() == 2000
    assert not one.is_in(ids.implode()).any()


def test_pseudonymiser_is_none_without_a_declared_key():
    assert pseudonymiser(Privacy(), {"MY_KEY": KEY}) is None


@pytest.mark.parametrize("environ", [{}, {"MY_KEY": ""}, {"MY_KEY": " " * 20}, {"my_key": KEY}])
def test_key_that_is_missing_is_refused(environ: dict[str, str]):
    with pytest.raises(DataError) as caught:
        pseudonymiser(PRIVACY, environ)
    assert str(caught.value) == (
        "data.privacy.pseudonym_key: wanted the key in the environment variable MY_KEY, got "
        "nothing. Set MY_KEY to a secret of 16 or more characters, the same for all data that are "
        "to fit together."
    )


def test_key_of_sixteen_characters_is_accepted():
    assert pseudonymiser(PRIVACY, {"MY_KEY": "0123456789abcdef"}) is not None


def test_key_that_is_short_is_refused_and_not_shown():
    with pytest.raises(DataError) as caught:
        pseudonymiser(PRIVACY, {"MY_KEY": "0123456789abcde"})
    assert str(caught.value) == (
        "data.privacy.pseudonym_key: wanted 16 or more characters in the environment variable "
        "MY_KEY, got 15: a short key can be guessed."
    )


def test_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", KEY)
    replace = pseudonymiser(PRIVACY)
    assert replace is not None
    assert replace(pl.Series(["a"])).to_list() == [pseudonym("a", KEY.encode())]


def test_key_is_neither_shown_nor_stored():
    replace = Pseudonymiser(KEY.encode())
    assert KEY not in f"{replace!r} {replace} {replace!s}"
    with pytest.raises(TypeError, match="cannot be stored"):
        pickle.dumps(replace)


def test_stamp_tells_keys_apart_and_shows_none():
    privacy = Privacy(pseudonym_key="SHOP_KEY")
    one, other = (pseudonym_stamp(privacy, {"SHOP_KEY": key}) for key in ("a" * 16, "b" * 16))
    assert one != other
    assert pseudonym_stamp(privacy, {"SHOP_KEY": "a" * 16}) == one
    assert one is not None
    assert "a" * 16 not in one
    assert pseudonym_stamp(Privacy()) is None
