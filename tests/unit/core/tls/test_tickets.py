from meshlb.core.tls.tickets import (
    LIFETIME_S,
    PERIOD_S,
    PERIODS_AHEAD,
    PERIODS_BEHIND,
    TicketKeys,
)

OLD, NEW = b"o" * 32, b"n" * 32
NOW = 1_000_000.0


def keys(*secrets: bytes, purpose: bytes = b"web") -> TicketKeys:
    return TicketKeys(secrets, purpose=purpose)


def test_two_nodes_of_one_secret_make_the_same_keys() -> None:
    assert keys(NEW).sealing(NOW) == keys(NEW).sealing(NOW)


def test_each_secret_period_and_purpose_has_keys_of_its_own() -> None:
    made = [
        keys(NEW).sealing(NOW),
        keys(OLD).sealing(NOW),
        keys(NEW).sealing(NOW + PERIOD_S),
        keys(NEW, purpose=b"other").sealing(NOW),
    ]
    parts = [part for key in made for part in (key.name, key.cipher, key.mac)]
    assert len(set(parts)) == len(parts)


def test_a_key_opens_for_as_long_as_a_session_it_sealed_may_last() -> None:
    ring = keys(NEW)
    sealed = ring.sealing(NOW)
    for age_s in range(0, LIFETIME_S + 1, 60):
        assert ring.opening(sealed.name, NOW + age_s) == sealed


def test_a_key_opens_no_more_once_its_time_is_over() -> None:
    ring = keys(NEW)
    sealed = ring.sealing(NOW)
    assert ring.opening(sealed.name, NOW + (PERIODS_BEHIND + 1) * PERIOD_S) is None


def test_a_node_whose_clock_is_behind_opens_what_another_one_has_sealed() -> None:
    sealed = keys(NEW).sealing(NOW)
    assert keys(NEW).opening(sealed.name, NOW - PERIODS_AHEAD * PERIOD_S) == sealed


def test_an_older_secret_opens_and_the_first_one_seals() -> None:
    ring = keys(OLD)
    sealed = ring.sealing(NOW)
    ring.use((NEW, OLD))
    assert ring.sealing(NOW) == keys(NEW).sealing(NOW)
    assert ring.opening(sealed.name, NOW) == sealed


def test_a_removed_secret_opens_nothing() -> None:
    ring = keys(OLD)
    sealed = ring.sealing(NOW)
    ring.use((NEW,))
    assert ring.opening(sealed.name, NOW) is None


def test_keys_are_not_shown() -> None:
    key = keys(NEW).sealing(NOW)
    assert repr(key.cipher) not in repr(key)
    assert repr(key.mac) not in repr(key)
