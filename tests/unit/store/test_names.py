import pytest

from meshlb.errors import StoreError
from meshlb.store.names import NAMES_MAX, Names


def test_a_name_keeps_its_number() -> None:
    names = Names(["app"])
    assert names.numbers["s1"] == 1
    assert names.numbers["app"] == 0
    assert names.numbers["s1"] == 1
    assert names[1] == "s1"


def test_only_new_names_have_to_be_saved() -> None:
    names = Names(["app"])
    assert names.unsaved() == []
    names.numbers["s1"]
    assert names.unsaved() == [(1, "s1")]
    names.saved()
    assert names.unsaved() == []


def test_when_all_numbers_are_taken_the_error_says_what_to_do() -> None:
    names = Names(map(str, range(NAMES_MAX)))
    assert names.numbers["7"] == 7
    with pytest.raises(StoreError, match="empty data_dir"):
        names.numbers["one more"]
