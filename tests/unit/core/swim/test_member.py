from dataclasses import replace
from typing import ClassVar

import pytest

from meshlb.core.swim.member import Outcome, is_contested, merge
from meshlb.model import Address, BootId, MemberState
from meshlb.wire.versions import OURS
from tests.fakes.swim import ALIVE, DEAD, LEFT, SUSPECT, member, told


@pytest.mark.parametrize(
    ("known", "said", "outcome"),
    [
        ((ALIVE, 5), (SUSPECT, 5), Outcome.SUSPECTED),
        ((ALIVE, 5), (DEAD, 5), Outcome.DIED),
        ((ALIVE, 5), (LEFT, 5), Outcome.LEFT),
        ((ALIVE, 5), (ALIVE, 5), Outcome.STALE),
        ((SUSPECT, 5), (ALIVE, 5), Outcome.STALE),
        ((SUSPECT, 5), (SUSPECT, 5), Outcome.CONFIRMED),
        ((SUSPECT, 5), (ALIVE, 6), Outcome.REFUTED),
        ((SUSPECT, 5), (SUSPECT, 6), Outcome.SUSPECTED),
        ((DEAD, 5), (SUSPECT, 5), Outcome.STALE),
        ((DEAD, 5), (ALIVE, 6), Outcome.RETURNED),
        ((DEAD, 5), (LEFT, 5), Outcome.LEFT),
        ((LEFT, 5), (DEAD, 5), Outcome.STALE),
        ((LEFT, 5), (ALIVE, 6), Outcome.RETURNED),
        ((ALIVE, 5), (DEAD, 4), Outcome.STALE),
        ((ALIVE, 5), (ALIVE, 6), Outcome.UPDATED),
    ],
)
def test_a_report_changes_what_the_table_says(known, said, outcome):
    before = member("b", *known)
    after, result = merge(before, told("b", *said), 9.0)
    assert result is outcome
    if outcome.replaces:
        assert (after.state, after.incarnation, after.since) == (*said, 9.0)
    else:
        assert after is before


def test_an_unknown_name_joins():
    after, outcome = merge(None, told("b"), 3.0)
    assert outcome is Outcome.JOINED
    assert after == member("b", since=3.0)


def test_a_later_boot_is_a_restart():
    _, outcome = merge(member("b", ALIVE, 5), told("b", ALIVE, 6, boot_id=BootId(7)), 0.0)
    assert outcome is Outcome.RESTARTED


def test_a_suspicion_of_an_earlier_boot_does_not_touch_the_present_one():
    known = member("b", ALIVE, 6, boot_id=BootId(7))
    assert merge(known, told("b", DEAD, 5), 0.0) == (known, Outcome.STALE)


def test_a_namesake_elsewhere_contests_a_live_name_but_not_a_dead_one():
    namesake = told("b", ALIVE, 9, boot_id=BootId(7), address=Address("10.9.9.9", 1))
    assert is_contested(member("b", ALIVE, 5), namesake)
    assert is_contested(member("b", SUSPECT, 5), namesake)
    assert not is_contested(member("b", DEAD, 5), namesake)
    assert not is_contested(None, namesake)


def test_a_restart_at_the_same_address_contests_nothing():
    assert not is_contested(member("b", ALIVE, 5), told("b", ALIVE, 9, boot_id=BootId(7)))


def test_a_member_may_change_its_address_itself():
    moved = told("b", ALIVE, 9, address=Address("10.9.9.9", 1))
    assert not is_contested(member("b", ALIVE, 5), moved)


class TestWhatAMemberSpeaks:
    """A member of version 1 passes reports on without what their subject speaks."""

    SILENT: ClassVar = {"version_min": 0, "version_max": 0, "features": 0}

    @pytest.mark.parametrize("state", list(MemberState))
    def test_is_not_forgotten_by_a_report_that_leaves_it_out(self, state: MemberState) -> None:
        known = member("b", ALIVE, 5)
        after, outcome = merge(known, told("b", state, 6, **self.SILENT), 1.0)
        assert outcome.replaces
        assert after is not None
        assert after.versions == known.versions == OURS

    def test_is_learnt_from_a_report_that_says_nothing_else_new(self) -> None:
        silent = member("b", SUSPECT, 5, **self.SILENT)
        assert silent.versions is None
        after, outcome = merge(silent, told("b", ALIVE, 5), 1.0)
        assert outcome is Outcome.STALE
        assert after == replace(silent, versions=OURS)

    def test_is_open_again_after_a_restart(self) -> None:
        """The subject may have been put back to the version before."""
        known = member("b", ALIVE, 5)
        after, _ = merge(known, told("b", ALIVE, 6, boot_id=BootId(7), **self.SILENT), 1.0)
        assert after is not None
        assert after.versions is None

    def test_of_an_earlier_boot_is_not_taken_for_that_of_the_present_one(self) -> None:
        silent = member("b", ALIVE, 5, boot_id=BootId(7), **self.SILENT)
        after, _ = merge(silent, told("b", ALIVE, 4), 1.0)
        assert after == silent
