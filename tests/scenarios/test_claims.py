"""The scenarios of claims, homes, backups and changes of the view."""

import pytest

from meshlb.core.sticky.homes import SLOTS, Homes, slot_of
from meshlb.model import NodeName
from protocol.reference import members as reference
from tests.scenarios.forms import Fields, key_of, load, named
from tests.scenarios.stage import Stage, agrees

FILE = load("claims")
OUTCOMES = ("sends", "tells", "order", "serves", "routed")


@pytest.mark.parametrize("holders", FILE["keys"])
def test_a_key_has_the_home_and_the_backup_that_its_name_says(holders: str) -> None:
    key = key_of(FILE["keys"][holders])
    homes = Homes(map(NodeName, "abc"))
    assert " ".join(map(str, homes.holders(key))) == holders
    assert reference.holders("abc", reference.slot(key))[:2] == holders.split()


def test_the_reference_has_every_slot_held_by_the_same() -> None:
    homes = Homes(map(NodeName, ("lb-1", "lb-2", "Lb-3", "x")))
    for number in range(0, SLOTS, 7):
        key = key_of((number << 6).to_bytes(2, "big").hex())
        assert slot_of(key) == reference.slot(key) == number
        assert list(homes.holders(key)) == reference.holders(homes.owners, number)[:2]


@pytest.mark.parametrize("scenario", named(FILE["scenario"]))
def test_member_a_does_what_the_scenario_says(scenario: Fields) -> None:
    stage = Stage(scenario, FILE["keys"])
    for number, step in enumerate(scenario["steps"]):
        stage.tell(step)
        for what in OUTCOMES:
            if what not in step:
                continue
            seen, wanted = stage.seen(what), step[what]
            where = f"step {number}, {what}: {seen}"
            if what == "sends":
                assert [peer for peer, _ in seen] == [each["to"] for each in wanted], where
                for (_, message), each in zip(seen, wanted, strict=True):
                    expected = {name: value for name, value in each.items() if name != "to"}
                    assert agrees(message, expected), where
            elif what == "tells":
                assert len(seen) == len(wanted), where
                assert all(map(agrees, seen, wanted)), where
            else:
                assert seen == wanted, where
