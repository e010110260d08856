"""Reads bytes of the protocol without meshlb: `python -m protocol.reference 91930101a46c622d32`.

Prints the messages of a batch as JSON. With `--stream` or `--datagram`, refuses what may not
travel there.
"""

import argparse
import json
import sys

from protocol.reference.messages import decode
from protocol.reference.unpack import Malformed


def main() -> int:
    """Decode what the command line gives; 1 where it is malformed, 2 where it is no hexadecimal."""
    parser = argparse.ArgumentParser(prog="python -m protocol.reference", description="Decode.")
    parser.add_argument("batch", help="a batch, in hexadecimal")
    carrier = parser.add_mutually_exclusive_group()
    carrier.add_argument("--stream", action="store_const", const="stream", dest="carrier")
    carrier.add_argument("--datagram", action="store_const", const="datagram", dest="carrier")
    arguments = parser.parse_args()
    try:
        encoded = bytes.fromhex(arguments.batch)
    except ValueError:
        parser.error("that is no hexadecimal")
    try:
        print(json.dumps(decode(encoded, carrier=arguments.carrier), indent=1))
    except Malformed as error:
        print(f"malformed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
