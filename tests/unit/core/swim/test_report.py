import pytest

from meshlb.core.swim import MemberChanged, ViewChanged
from meshlb.core.swim.outbox import Outbox
from meshlb.core.swim.report import Reporter
from meshlb.core.swim.view import View
from meshlb.model import NodeName
from tests.fakes.swim import ALIVE, LEFT, SUSPECT, member, only, told


@pytest.fixture
def report():
    """Applies an update to a view and gives the effects that the node sees."""
    view = View(member("a"))
    outbox = Outbox(view, lambda _: 100)
    reporter = Reporter(view, outbox)

    def apply(update):
        change = view.apply(update, 0.0)
        reporter.report(change.before, change.after, change.outcome.value)
        return outbox.drain()

    return apply


def test_a_change_names_the_member_its_former_state_and_the_reason(report):
    assert report(told("b")) == [MemberChanged(member("b"), None, "joined")]
    assert report(told("b", SUSPECT)) == [MemberChanged(member("b", SUSPECT), ALIVE, "suspected")]


def test_owners_are_told_of_when_they_change_and_only_then(report):
    assert only(ViewChanged, report(told("b"))) == []
    (changed,) = only(ViewChanged, report(told("b", ALIVE, 2, synced=True)))
    assert (changed.owners, changed.quorate) == ((NodeName("b"),), True)
    assert only(ViewChanged, report(told("b", SUSPECT, 2, synced=True))) == []


def test_a_newer_incarnation_alone_is_no_news(report):
    report(told("b"))
    assert report(told("b", ALIVE, 2)) == []


def test_who_left_before_it_was_known_is_no_news(report):
    assert report(told("b", LEFT)) == []
