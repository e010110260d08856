"""The hierarchy of errors; each says who is at fault.

MeshlbError
├── ConfigError          the operator's configuration file or command line
├── StoreError           the disk, or what is on it
│   └── UnusableStoreError   a damaged store, or another cluster's
├── KeyOrderError        the operator's order about the cluster's secrets  (has a code)
├── NoQuorumError        the cluster: this node is with a minority, and must not decide alone
├── HandOverError        the other process of an upgrade: gone, late, or not of our kind
├── RelayError           this machine: it has no kernel relay, and the operator wants one
├── ListenError          an address that cannot be bound
├── DescriptorError      this machine: it allows the node too few open files
├── WorkerError          another process of this node: stuck, or it makes no sense
│   └── WorkerGoneError      it has ended
├── DownstreamError      the client: bad syntax, limits, time-outs        (has an HTTP status)
├── UpstreamError        the backend: refused, reset, invalid or late     (has an HTTP status)
└── PeerError            another member, or somebody who claims to be one
    ├── WireError        bytes that are no message of ours
    ├── SealError        bytes that do not open under any key we hold
    └── RefusedError     the peer refuses us, or we refuse it             (has a reason)
"""


class MeshlbError(Exception):
    """Base of all errors that meshlb raises on purpose."""


class ConfigError(MeshlbError):
    """The configuration is at fault; `faults` lists every one of them, a line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class StoreError(MeshlbError):
    """The store cannot be opened or written; nothing was changed."""


class UnusableStoreError(StoreError):
    """The store on the disk must not be used; it is as it was. A node may start without it."""


class KeyOrderError(MeshlbError):
    """The operator's order would cut members off, or names no known secret; nothing changed.

    `code` is a constant word for programs.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoQuorumError(MeshlbError):
    """`mode = "strict"`: a new session was refused for want of a majority; nothing was changed."""


class RelayError(MeshlbError):
    """`kernel_relay = "required"`, and it cannot be had here; the message says why."""


class ListenError(MeshlbError):
    """An address cannot be bound; the message names the address and the reason."""


class DescriptorError(MeshlbError):
    """A node cannot run with so few descriptors; the message says how to allow it more."""


class HandOverError(MeshlbError):
    """An upgrade: the other process does not do its part; this one goes on with what it has."""


class WorkerError(MeshlbError):
    """A process of this node does not keep up, or says what it should not."""


class WorkerGoneError(WorkerError):
    """A process of this node has ended."""


class DownstreamError(MeshlbError):
    """The client is at fault; `status` is the HTTP status that answers it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class UpstreamError(MeshlbError):
    """The backend is at fault; `status` is the HTTP status that the client gets."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class PeerError(MeshlbError):
    """A peer is at fault; the connection or datagram is dropped and no state changes."""


class WireError(PeerError):
    """Bytes that are no message of this protocol; no state changes."""


class SealError(PeerError):
    """Bytes that open under none of our keys, or were seen before; no state changes."""


class RefusedError(PeerError):
    """A refusal between peers; `reason` is one of `meshlb.wire.refusal.Refusal`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
