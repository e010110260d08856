"""python -m tests.sim: runs whole simulated meshes, one seed or many. See `make sim`."""

from tests.sim.mesh.command import main

main()
