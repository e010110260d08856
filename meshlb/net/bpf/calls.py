"""The bpf(2) system call: maps, programs, and the errors of both.

Owns the layout of the call's arguments and the descriptors that it returns. It knows nothing of
sockets, nor of what a program does.
"""

import ctypes
import errno
import os
import platform
from typing import Final

from meshlb.errors import MeshlbError

HASH, ARRAY, SOCKMAP, RING_BUFFER = 1, 2, 15, 27
"""Types of maps."""

NO_PREALLOCATION: Final = 1 << 0
MMAPABLE: Final = 1 << 10
"""Flags of maps."""

SK_SKB: Final = 14
"""The type of programs that decide about what a socket receives."""

SK_SKB_VERDICT: Final = 38
"""Where they are attached: to a map of sockets, without a parser before them."""

_MAP_CREATE, _MAP_UPDATE, _MAP_DELETE, _PROGRAM_LOAD, _PROGRAM_ATTACH = 0, 2, 3, 5, 8
_SYSCALL_NUMBERS: Final = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64le": 361,
    "s390x": 351,
}
_COMPLAINT_BYTES: Final = 65_536


class BpfError(MeshlbError):
    """The kernel refused; nothing changed. The message says what, and what it takes."""


class _MapArguments(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("key_bytes", ctypes.c_uint32),
        ("value_bytes", ctypes.c_uint32),
        ("entries_max", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class _ElementArguments(ctypes.Structure):
    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class _ProgramArguments(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("instructions_count", ctypes.c_uint32),
        ("instructions", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_bytes", ctypes.c_uint32),
        ("log", ctypes.c_uint64),
    )


class _AttachArguments(ctypes.Structure):
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("program_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


_libc: Final = ctypes.CDLL(None, use_errno=True)
_syscall_number: Final = _SYSCALL_NUMBERS.get(platform.machine())


def create_map(
    kind: int, *, key_bytes: int, value_bytes: int, entries_max: int, flags: int = 0
) -> int:
    """A new map; the caller owns its descriptor.

    Raises:
        BpfError: not allowed, not known to this kernel, or out of memory.
    """
    arguments = _MapArguments(kind, key_bytes, value_bytes, entries_max, flags)
    return _obtain(_MAP_CREATE, arguments, "make a map")


def load_program(instructions: bytes) -> int:
    """A program of type `SK_SKB`; the caller owns its descriptor.

    Raises:
        BpfError: not allowed, or refused by the verifier, whose last words are in the message.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    words = ctypes.create_string_buffer(_COMPLAINT_BYTES)
    arguments = _ProgramArguments(
        SK_SKB,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.cast(_LICENSE, ctypes.c_void_p).value,
    )
    try:
        return _obtain(_PROGRAM_LOAD, arguments, "load a program")
    except BpfError as error:
        # Once more, with the verifier's reasons: they cost time that a success does not need.
        arguments.log_level, arguments.log_bytes = 1, _COMPLAINT_BYTES
        arguments.log = ctypes.addressof(words)
        if _call(_PROGRAM_LOAD, arguments) >= 0 or not words.value:
            raise
        complaint = words.value.decode(errors="replace").strip().splitlines()
        raise BpfError(f"{error}: {'; '.join(complaint[-3:])}") from error


def attach_program(map_fd: int, program_fd: int) -> None:
    """Have the program decide for every socket that is put into the map from now on.

    Raises:
        BpfError: this kernel cannot.
    """
    arguments = _AttachArguments(map_fd, program_fd, SK_SKB_VERDICT, 0)
    if _call(_PROGRAM_ATTACH, arguments) < 0:
        raise _failure("attach a program")


class Elements:
    """The elements of one map, with keys and values of 4 or 8 bytes.

    The arguments of the call are made once: a tunnel costs four updates.
    """

    def __init__(self, map_fd: int, *, key_bytes: int, value_bytes: int) -> None:
        self._key = (ctypes.c_uint64 if key_bytes == 8 else ctypes.c_uint32)()
        self._value = (ctypes.c_uint64 if value_bytes == 8 else ctypes.c_uint32)()
        self._arguments = _ElementArguments(
            map_fd, ctypes.addressof(self._key), ctypes.addressof(self._value), 0
        )

    def put(self, key: int, value: int) -> None:
        """Set an element.

        Raises:
            BpfError: the map is full, or a socket is in no state to be relayed.
        """
        self._key.value, self._value.value = key, value
        if _call(_MAP_UPDATE, self._arguments) < 0:
            raise _failure("change a map")

    def drop(self, key: int) -> None:
        """Delete an element; one that is not there is no error."""
        self._key.value = key
        _call(_MAP_DELETE, self._arguments)


_LICENSE: Final = ctypes.c_char_p(b"MIT")


def _obtain(command: int, arguments: ctypes.Structure, purpose: str) -> int:
    fd = _call(command, arguments)
    if fd < 0:
        raise _failure(purpose)
    os.set_inheritable(fd, False)
    return fd


def _call(command: int, arguments: ctypes.Structure) -> int:
    """Bpf(2): below zero where it failed, and errno is set."""
    if _syscall_number is None:
        ctypes.set_errno(errno.ENOSYS)
        return -1
    # Beyond what a command knows, its arguments have to be zero; shorter ones are allowed.
    result: int = _libc.syscall(
        _syscall_number, command, ctypes.byref(arguments), ctypes.sizeof(arguments)
    )
    return result


def _failure(purpose: str) -> BpfError:
    number = ctypes.get_errno()
    if number == errno.EPERM:
        need = "it takes the capabilities CAP_BPF and CAP_NET_ADMIN"
    elif number == errno.ENOSYS:
        need = "this system has no BPF"
    else:
        need = os.strerror(number).lower()
    return BpfError(f"cannot {purpose}: {need}")
