"""The assembler, against encodings written out by hand from the instruction set."""

import sys

import pytest

from meshlb.net.bpf.assembly import R0, R1, R2, R6, R7, R10, WORD, Assembly

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="written out in little endian")


def assembled(write) -> list[str]:
    program = Assembly()
    write(program)
    code = program.assemble()
    return [code[at : at + 8].hex() for at in range(0, len(code), 8)]


def test_a_program_that_returns_one():
    def write(a: Assembly) -> None:
        a.set(R0, 1)
        a.exit()

    assert assembled(write) == ["b700000001000000", "9500000000000000"]


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (lambda a: a.move(R6, R1), "bf16000000000000"),
        (lambda a: a.load(R1, R7, 16), "7971100000000000"),
        (lambda a: a.load(R7, R0, 0, WORD), "6107000000000000"),
        (lambda a: a.store(R10, -8, R0), "7b0af8ff00000000"),
        (lambda a: a.store(R10, -12, R7, WORD), "637af4ff00000000"),
        (lambda a: a.store_number(R7, 40, 1), "7a07280001000000"),
        (lambda a: a.add(R1, R2), "0f21000000000000"),
        (lambda a: a.add_number(R2, -8), "07020000f8ffffff"),
        (lambda a: a.xor_number(R2, 1), "a702000001000000"),
        (lambda a: a.call(46), "850000002e000000"),
    ],
)
def test_each_instruction_has_its_encoding(write, code):
    assert assembled(write) == [code]


def test_a_map_takes_two_instructions_and_stands_for_its_descriptor():
    assert assembled(lambda a: a.set_map(R1, 5)) == ["1811000005000000", "0000000000000000"]


def test_jumps_go_to_their_labels_in_both_directions():
    def write(a: Assembly) -> None:
        a.label("again")
        a.jump_if_number(R0, 0, "done")
        a.jump_unless_number(R0, 1, "again")
        a.jump_unless_equal(R1, R2, "again")
        a.jump_if_at_least(R1, R2, "again")
        a.jump("again")
        a.label("done")
        a.exit()

    assert assembled(write) == [
        "1500040000000000",
        "5500feff01000000",
        "5d21fdff00000000",
        "3d21fcff00000000",
        "0500fbff00000000",
        "9500000000000000",
    ]
