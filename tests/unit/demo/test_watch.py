from pathlib import Path

import httpx
import pytest
import trio

from meshlb.admin.api import build_app
from meshlb.admin.serve import serve
from meshlb.config import AdminSettings
from meshlb.demo import watch as watch_module
from meshlb.demo.child import Child
from meshlb.demo.stage import Node
from meshlb.demo.story import Event, Story
from meshlb.demo.watch import Watch
from meshlb.model import BackendState
from tests.fakes.node import FakeNode


async def test_a_watch_tells_what_changes_and_sums_over_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "TIMEOUT_S", 60.0)
    told: list[Event] = []
    fakes = [FakeNode(), FakeNode()]
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False) as http:
        nodes = []
        for number, fake in enumerate(fakes, start=1):
            settings = AdminSettings.model_validate({"bind": "127.0.0.1:0"})
            admin = str(await nursery.start(serve, settings, build_app(fake)))
            child = Child(f"lb-{number}", [], tmp_path / "log")
            nodes.append(Node(child, http="", admin=admin, cluster=""))
        watch = Watch(nodes, Story(trio.current_time, told.append), http)
        assert watch.backends == {}
        await watch.look()
        assert told == []
        assert watch.backends["s1"]["connections"] == 4
        assert watch.backends["s1"]["pins"] == 1
        assert watch.is_whole

        for fake in fakes:
            fake.states = {"s1": BackendState.DOWN}
        fakes[0].unready = "pulling the table"
        fakes[1].states["s2"] = BackendState.MAINTENANCE
        await watch.look()
        assert [event.text for event in told] == [
            "lb-1, lb-2 find s1 down",
            "lb-2 finds s2 maintenance",
        ]
        assert watch.excused == {"s2"}
        assert not watch.is_whole
        assert await watch.count_conflicts() == 0
        nursery.cancel_scope.cancel()


async def test_a_node_that_does_not_answer_is_no_fault(tmp_path: Path) -> None:
    told: list[Event] = []
    gone = Node(Child("lb-1", [], tmp_path / "log"), http="", admin="127.0.0.1:1", cluster="")
    async with httpx.AsyncClient(trust_env=False) as http:
        watch = Watch([gone], Story(trio.current_time, told.append), http)
        await watch.look()
        assert not watch.sights["lb-1"].answers
        assert await watch.count_conflicts() is None
    assert told == []
