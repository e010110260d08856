from meshlb.cluster.history import History
from meshlb.cluster.story import Stories
from meshlb.core.sticky.homes import Homes
from meshlb.model import NodeName
from tests.fakes.pins import NOW, a_key, a_pin

A, B, C = NodeName("a"), NodeName("b"), NodeName("c")


def test_a_story_names_the_holders_under_the_view_of_now() -> None:
    stories, history = Stories(), History()
    history.note(a_key(), a_pin(), teller=A, now=NOW)
    for owners in ((A, B, C), (A, C), (A,)):
        story = stories.tell(a_key(), a_pin(), owners=owners, history=history)
        assert (story.home, story.backup) == Homes(owners).holders(a_key())
        assert [note.at for note in story.notes] == [NOW]


def test_a_key_without_a_history_has_a_story_all_the_same() -> None:
    story = Stories().tell(a_key(), a_pin("s2"), owners=(A,), history=History())
    assert (story.pin.backend, story.home, story.backup, story.notes) == ("s2", A, None, ())
