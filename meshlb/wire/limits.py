"""The named limits of the wire: what a peer may make us read, hold or allocate.

Owns only numbers. Each is checked before anything of that size is allocated; a peer that goes
over one is at fault. Limits on queues and tables of a node live beside the code that holds them.

Spec: protocol/spec/framing.md and protocol/spec/messages.md.
"""

DATAGRAM_BYTES_MAX = 1_400
"""A whole datagram. Fits an Ethernet frame with room for tunnels, so it is never fragmented."""

NAME_BYTES_MAX = 63
"""A node, pool or backend name in UTF-8."""

ADDRESS_HOST_BYTES_MAX = 45
"""An IP address as text; the longest is a v4-mapped v6 address."""

DATAGRAM_HEADER_BYTES_MAX = 1 + 4 + 8 + 8 + 8 + 1 + NAME_BYTES_MAX
"""Version, key id, cluster label, boot id, counter, length of the sender's name, the name."""

SEAL_TAG_BYTES = 16
"""What AES-GCM adds to a plaintext."""

DATAGRAM_PLAIN_BYTES_MAX = DATAGRAM_BYTES_MAX - DATAGRAM_HEADER_BYTES_MAX - SEAL_TAG_BYTES
"""Encoded messages in one datagram, whatever the sender's name."""

FRAME_PLAIN_BYTES_MAX = 256 * 1024
"""Encoded messages in one frame of a stream."""

FRAME_SEALED_BYTES_MAX = FRAME_PLAIN_BYTES_MAX + SEAL_TAG_BYTES
"""What the length in front of a sealed frame may say."""

MESSAGE_BYTES_MAX = FRAME_PLAIN_BYTES_MAX - 8
"""One encoded message: it must fit a frame behind the array header and the kind byte."""

HANDSHAKE_FRAME_BYTES_MAX = 512
"""One message of the handshake, without its own kind and length."""

MESSAGES_PER_FRAME_MAX = 4_096
MEMBERS_PER_MESSAGE_MAX = 512
PINS_PER_MESSAGE_MAX = 512
"""At their longest, 512 pins take about 150 kB: they always fit a frame."""

BUCKETS = 4_096
"""Parts of the table that are compared by hash."""

POSITIONS_PER_MESSAGE_MAX = 512
KEYS_PER_MESSAGE_MAX = 512
"""Keys of one BucketKeys or BucketPins."""

PACKED_PIN_BYTES = 39
"""One record of a TableRun."""

PACKED_END_BYTES = 8
"""Where one of them ends whatever its use."""

RUN_PINS_MAX = 2_048
RUN_NAMES_MAX = 512
"""Of one TableRun: with all that belongs to it, it takes 170 kB at most."""

PAYLOAD_BYTES_MAX = 16 * 1024
"""What a broadcast carries."""

VALUES_PER_FIELD_MAX = 8
"""Items of a field that holds several of anything else."""

BIN_BYTES_MAX = max(PAYLOAD_BYTES_MAX, RUN_PINS_MAX * PACKED_PIN_BYTES)
"""What the msgpack reader allows any byte string to announce."""

ARRAY_ITEMS_MAX = max(
    MESSAGES_PER_FRAME_MAX, MEMBERS_PER_MESSAGE_MAX, PINS_PER_MESSAGE_MAX, BUCKETS
)
"""What the msgpack reader allows any array to announce."""

KEYRING_SECRETS_MAX = VALUES_PER_FIELD_MAX
KEY_WORDS_MAX = 32
"""Secrets that are remembered as removed; the oldest makes room."""

REPLAY_WINDOW_BITS = 2_048
"""How far behind the newest datagram of a sender an older one may arrive."""

REPLAY_SENDERS_MAX = 1_024
"""Pairs of sender and boot id that a node holds keys and windows for."""
