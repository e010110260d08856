"""What a memo keeps, and that it never keeps too much."""

from meshlb.core.http.memo import BYTES_MAX, ENTRIES_MAX, KEY_BYTES_MAX, Memo


def test_keeps_what_it_is_told():
    memo: Memo[int] = Memo()
    memo.keep(b"a", 1)
    assert memo.get(b"a") == 1
    assert memo.get(b"b") is None


def test_does_not_keep_long_keys():
    memo: Memo[int] = Memo()
    memo.keep(b"a" * KEY_BYTES_MAX, 1)
    memo.keep(b"a" * (KEY_BYTES_MAX + 1), 2)
    assert list(memo.values()) == [1]


def test_the_number_of_keys_is_bounded():
    memo: Memo[int] = Memo()
    for n in range(ENTRIES_MAX + 1):
        memo.keep(b"%d" % n, n)
    assert list(memo.values()) == [ENTRIES_MAX]


def test_their_bytes_are_bounded():
    memo: Memo[int] = Memo()
    fitting = BYTES_MAX // KEY_BYTES_MAX
    for n in range(fitting + 1):
        memo.keep(b"%d" % n + b"a" * (KEY_BYTES_MAX - len(str(n))), n)
        assert len(memo) <= fitting
    assert list(memo.values()) == [fitting]
