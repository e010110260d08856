"""The scenarios of what members say of each other; merge and view at the reference too."""

import itertools
from typing import Any

import pytest

from meshlb.core.swim import DatagramReceived, Refused, StreamReceived
from meshlb.core.swim.member import merge
from meshlb.core.swim.view import View
from meshlb.model import BootId, MemberState, NodeName
from meshlb.wire.messages import MemberUpdate
from protocol.reference import members as reference
from tests.fakes.swim import address_of, member, membership, only, open_stream, sent_to, told
from tests.scenarios.forms import Fields, load, named

FILE = load("members")
PEERS = "bcd"


def report(fields: Fields) -> MemberUpdate:
    said = FILE["defaults"] | fields
    name = said.get("name", "b")
    return told(
        name,
        MemberState[said["state"]],
        said["incarnation"],
        boot_id=BootId(said.get("boot_id", ord(name[0].lower()) - ord("a") + 1)),
        address=address_of(said.get("address", name)),
        synced=said["synced"],
        reporter=NodeName(said.get("reporter", name)),
    )


def as_reference(update: MemberUpdate) -> reference.Report:
    names = ("name", "boot_id", "incarnation", "synced")
    fields: Fields = {name: getattr(update, name) for name in names}
    return fields | {"state": update.state.value}


def agrees(update: Any, expected: Fields) -> bool:
    """Whether a member or a report is what the scenario says, where it says something."""
    plain = {"state": MemberState(update.state).name}
    return all(plain.get(name, getattr(update, name)) == expected[name] for name in expected)


@pytest.mark.parametrize("scenario", named(FILE["merge"]))
def test_the_greatest_report_stays_in_any_order(scenario: Fields) -> None:
    reports = [report(fields) for fields in scenario["told"]]
    for order in itertools.permutations(reports):
        known, witnessed = None, as_reference(order[0])
        for update in (*order, order[0]):
            known, _ = merge(known, update, 0.0)
            witnessed = reference.newer(witnessed, as_reference(update))
        assert known is not None
        assert agrees(known, scenario["expect"])
        assert witnessed == as_reference(known.update())


@pytest.mark.parametrize("scenario", named(FILE["refutation"]))
def test_who_hears_believes_and_answers_as_the_scenario_says(scenario: Fields) -> None:
    machine = membership("a", boot_id=BootId(1), incarnation=10)
    for name in PEERS:
        machine.receive(
            DatagramReceived(NodeName(name), address_of(name), (report({"name": name}),)), 0.0
        )
        open_stream(machine, name)
    effects = []
    for step in scenario["steps"]:
        said = (report(step["of"]),) if "of" in step else ()
        effects = machine.receive(StreamReceived(NodeName(step["from"]), said), 1.0)
    believed = scenario["believes"]
    (held,) = [known for known in machine.members() if known.name == believed["name"]]
    assert agrees(held, believed)
    for expected in scenario.get("tells", ()):
        wanted = {name: value for name, value in expected.items() if name != "to"}
        said = [m for m in sent_to(effects, expected["to"]) if isinstance(m, MemberUpdate)]
        assert any(agrees(update, wanted) for update in said), expected
    if scenario.get("quiet"):
        assert effects == []
    assert [refused.reason.value for refused in only(Refused, effects)] == (
        [scenario["refuses"]] if "refuses" in scenario else []
    )


@pytest.mark.parametrize("scenario", named(FILE["view"]))
def test_owners_view_id_and_quorum_are_those_of_the_scenario(scenario: Fields) -> None:
    view = View(member("a", synced=True, boot_id=BootId(1)))
    seeds = {address_of(name) for name in scenario.get("seeds", ())}
    view.expect(seeds)
    reports = [report(fields) for fields in scenario["members"]]
    for update in reports:
        view.apply(update, 0.0)
    ownership = view.ownership()
    members = [as_reference(known.update()) for known in view.all()]
    unmet = len(seeds - {known.address for known in view.all()})
    assert ownership.quorate == scenario["quorate"] == reference.is_quorate(members, unmet=unmet)
    assert ownership.view_id == reference.view_id(members)
    assert [said["name"] for said in reference.owners(members)] == list(ownership.owners)
    if "owners" in scenario:
        assert list(ownership.owners) == scenario["owners"]
        assert ownership.view_id.to_bytes(8, "big").hex() == scenario["view_id"]
