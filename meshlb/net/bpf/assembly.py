"""An assembler for the few BPF instructions that this node's program is made of.

Owns the encoding (Linux, Documentation/bpf/standardization/instruction-set.rst) and jumps to
labels. It knows nothing of what a program is for, and loads none.
"""

import struct
from typing import Final

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)
"""R0 returns, R1 to R5 are arguments and lost in a call, R6 to R9 are kept, R10 is the frame."""

WORD, DOUBLE = 0x00, 0x18
"""Sizes of a load or store: 4 and 8 bytes."""

_LD_IMM_64: Final = 0x18
_LOAD: Final = 0x61  # BPF_LDX | BPF_MEM
_STORE: Final = 0x63  # BPF_STX | BPF_MEM
_STORE_IMM: Final = 0x62  # BPF_ST | BPF_MEM
_MOVE: Final = 0xBF
_MOVE_IMM: Final = 0xB7
_ADD: Final = 0x0F
_ADD_IMM: Final = 0x07
_XOR_IMM: Final = 0xA7
_JUMP: Final = 0x05
_JUMP_EQUAL_IMM: Final = 0x15
_JUMP_NOT_EQUAL: Final = 0x5D
_JUMP_NOT_EQUAL_IMM: Final = 0x55
_JUMP_AT_LEAST: Final = 0x3D
_CALL: Final = 0x85
_EXIT: Final = 0x95
_MAP_BY_FD: Final = 1  # BPF_PSEUDO_MAP_FD, in the place of the source register

_INSTRUCTION: Final = struct.Struct("=BBhi")


class Assembly:
    """A program as it is written, one instruction a call; `assemble` gives its bytes."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        """What jumps to `name` goes on with the next instruction."""
        assert name not in self._labels
        self._labels[name] = len(self._instructions)

    def load(self, to: int, base: int, offset: int, size: int = DOUBLE) -> None:
        """`to = *(base + offset)`."""
        self._add(_LOAD | size, to, base, offset)

    def store(self, base: int, offset: int, source: int, size: int = DOUBLE) -> None:
        """`*(base + offset) = source`."""
        self._add(_STORE | size, base, source, offset)

    def store_number(self, base: int, offset: int, number: int) -> None:
        """`*(base + offset) = number`, 8 bytes."""
        self._add(_STORE_IMM | DOUBLE, base, 0, offset, number)

    def move(self, to: int, source: int) -> None:
        """`to = source`."""
        self._add(_MOVE, to, source)

    def set(self, to: int, number: int) -> None:
        """`to = number`."""
        self._add(_MOVE_IMM, to, immediate=number)

    def set_map(self, to: int, map_fd: int) -> None:
        """`to` = the map behind a descriptor of the process that loads the program."""
        self._add(_LD_IMM_64, to, _MAP_BY_FD, 0, map_fd)
        self._add(0)

    def add(self, to: int, source: int) -> None:
        """`to += source`."""
        self._add(_ADD, to, source)

    def add_number(self, to: int, number: int) -> None:
        """`to += number`."""
        self._add(_ADD_IMM, to, immediate=number)

    def xor_number(self, to: int, number: int) -> None:
        """`to ^= number`."""
        self._add(_XOR_IMM, to, immediate=number)

    def jump(self, label: str) -> None:
        """Go on at `label`."""
        self._add(_JUMP, offset=label)

    def jump_if_number(self, left: int, number: int, label: str) -> None:
        """Where `left == number`."""
        self._add(_JUMP_EQUAL_IMM, left, 0, label, number)

    def jump_unless_number(self, left: int, number: int, label: str) -> None:
        """Where `left != number`."""
        self._add(_JUMP_NOT_EQUAL_IMM, left, 0, label, number)

    def jump_unless_equal(self, left: int, right: int, label: str) -> None:
        """Where `left != right`."""
        self._add(_JUMP_NOT_EQUAL, left, right, label)

    def jump_if_at_least(self, left: int, right: int, label: str) -> None:
        """Where `left >= right`, unsigned."""
        self._add(_JUMP_AT_LEAST, left, right, label)

    def call(self, function: int) -> None:
        """A kernel function by its number: `R0 = function(R1, …, R5)`."""
        self._add(_CALL, immediate=function)

    def exit(self) -> None:
        """Return R0."""
        self._add(_EXIT)

    def assemble(self) -> bytes:
        """The bytes of the program, its labels resolved."""
        return b"".join(
            _INSTRUCTION.pack(
                code,
                registers,
                self._labels[offset] - place - 1 if isinstance(offset, str) else offset,
                immediate,
            )
            for place, (code, registers, offset, immediate) in enumerate(self._instructions)
        )

    def _add(
        self, code: int, to: int = 0, source: int = 0, offset: int | str = 0, immediate: int = 0
    ) -> None:
        self._instructions.append((code, _registers(to, source), offset, immediate))


def _registers(to: int, source: int) -> int:
    """Both in a byte; which half is whose follows the byte order of the machine."""
    return source << 4 | to if _IS_LITTLE_ENDIAN else to << 4 | source


_IS_LITTLE_ENDIAN: Final = struct.pack("=H", 1) == b"\x01\x00"
