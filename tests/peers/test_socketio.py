"""A Socket.IO application with memory-held rooms behind three nodes, and its real client."""

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness import socketio
from tests.peers.harness.mesh import COOKIE
from tests.peers.harness.socketio import SocketIOClients

CLIENTS = 200


def test_socketio_clients_keep_their_backend_through_random_nodes_and_a_killed_node(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    socketio.install()
    mesh = start_mesh(backends=start_backends("rooms", 3), sticky=[COOKIE])
    with SocketIOClients(mesh.ports, CLIENTS) as clients:
        welcomes = clients.wait_for("welcome")
        clients.wait_for("upgrade")
        answers = clients.say(since=0)

        # Polling, upgrade and the tunnel reached one backend, though each took a random node.
        assert clients.of("connect_error", "disconnect") == []
        assert {answers[n]["backend"] == welcomes[n]["backend"] for n in answers} == {True}
        assert {answer["words"] for answer in answers.values()} == {1}
        assert len({welcome["backend"] for welcome in welcomes.values()}) == 3

        since = len(clients.reports)
        mesh.nodes[0].kill()
        dropped = clients.wait_for("disconnect", since=since, count=1)
        clients.wait_for("welcome", since=since, count=len(dropped))
        answers = clients.say(since=since)

        # Who lost its tunnel is back where its room is; the others never noticed.
        dropped = clients.wait_for("disconnect", since=since, count=1)
        back = clients.wait_for("welcome", since=since, count=len(dropped))
        assert set(back) == set(dropped)
        assert all(back[n]["backend"] == welcomes[n]["backend"] for n in back)
        assert {welcome["visits"] for welcome in back.values()} == {2}
        assert {answer["words"] for answer in answers.values()} == {2}
        assert not any("nvalid session" in report["body"] for report in clients.of("connect_error"))
