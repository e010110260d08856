from meshlb.cluster.search import Search
from meshlb.model import Address

ME, ONE, TWO = (Address("10.0.0.1", port) for port in (1, 2, 3))


def test_it_is_over_once_every_address_but_our_own_was_tried() -> None:
    search = Search(ME, [ME, ONE, TWO])
    assert search.left == 2
    search.tried(ONE, None)
    search.tried(TWO)
    assert search.left == 0


def test_a_name_that_has_not_resolved_is_still_to_be_tried_and_so_are_its_addresses_then() -> None:
    search = Search(ME, [ONE], unresolved=1)
    search.tried(ONE)
    assert search.left == 1
    search.extend([ONE, TWO], unresolved=0)
    assert search.left == 1
    search.tried(TWO)
    assert search.left == 0


def test_an_address_that_comes_back_to_a_name_is_not_tried_anew() -> None:
    search = Search(ME, [ONE])
    search.tried(ONE)
    search.extend([], unresolved=0)
    search.extend([ONE], unresolved=0)
    assert search.left == 0
