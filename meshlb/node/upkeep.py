"""What a node does for its store all the time: sweep, flush, and note that it is not alone.

Owns when. What is swept is for the store to know, and contact for the mesh.
"""

import math
from typing import Final

import structlog
import trio

from meshlb.cluster.mesh import Mesh
from meshlb.errors import StoreError
from meshlb.store import LmdbPins
from meshlb.store.sweep import SWEEP_PINS_MAX

SWEEP_ROUND_S: Final = 60.0
"""How long it takes to look at every pin, as far as the steps are not the longest."""

SWEEP_STEP_S_MIN, SWEEP_STEP_S_MAX = 0.05, 0.5
"""How far its steps lie apart; each looks at a bounded number of pins."""

CONTACT_EVERY_S: Final = 10.0
"""How often a node notes on its disk that it is with the majority."""

SYNC_EVERY_S: Final = 1.0
"""How much of the latest a power cut of the machine can cost; a crash of the node costs nothing."""

log = structlog.get_logger()


async def keep_store(store: LmdbPins, mesh: Mesh) -> None:
    """Remove what has expired, a little at a time; flush to the disk in a thread."""
    synced_at, contact_at = trio.current_time(), -math.inf
    while True:
        step_s = SWEEP_ROUND_S * SWEEP_PINS_MAX / max(1, len(store))
        await trio.sleep(min(SWEEP_STEP_S_MAX, max(SWEEP_STEP_S_MIN, step_s)))
        store.sweep(mesh.clock.now())
        is_due = trio.current_time() >= contact_at + CONTACT_EVERY_S
        if is_due and mesh.is_quorate and mesh.readiness()[0]:
            contact_at = trio.current_time()
            store.note_contact(mesh.clock.now())
        if trio.current_time() >= synced_at + SYNC_EVERY_S:
            try:
                await trio.to_thread.run_sync(store.sync)
            except StoreError as error:
                log.error("the pins could not be flushed to the disk", reason=str(error))
            synced_at = trio.current_time()
