"""`python -m tests.fakes.pin_reader DIRECTORY`: a reader, line by line.

Each line of its input is a key in hexadecimal, each line of its output what it knows of that key.
"""

import argparse
import sys
from pathlib import Path

from meshlb.model import SessionKey
from meshlb.store import reading


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--map-bytes", type=int)
    parser.add_argument("--count-stands-still", action="store_true")
    parser.add_argument("--stops-half-way", action="store_true")
    arguments = parser.parse_args()
    if arguments.map_bytes:
        reading.MAP_BYTES_FIRST = arguments.map_bytes  # type: ignore[misc]  # an old, small file
    reader = reading.PinReader(
        arguments.directory, changes=(lambda: 1) if arguments.count_stands_still else None
    )
    held: list[object] = []
    for line in sys.stdin:
        pin = reader.get(SessionKey(bytes.fromhex(line)))
        if arguments.stops_half_way:
            held.append(reader._begin())
        print("none" if pin is None else f"{pin.backend} {pin.epoch}", flush=True)


if __name__ == "__main__":
    main()
