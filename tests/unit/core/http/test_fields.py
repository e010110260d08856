"""Field blocks: whole, split, and searched."""

import pytest

from meshlb.core.http.fields import (
    FieldFilter,
    backend_fault,
    check_block,
    client_fault,
    combined,
    field_pattern,
    list_items,
    without_fields,
)
from meshlb.errors import DownstreamError, UpstreamError

BLOCK = b"\nHost: a\r\nX-Hop:  1 \r\naccept: x\r\nx-hop: 2\r\n\r\n"


def test_a_block_is_split_into_what_passes_and_what_was_found():
    chosen = FieldFilter(field_pattern((b"host", b"x-[a-z]++")), passed=frozenset((b"host",)))
    assert chosen.split(BLOCK) == (
        {b"host": [b"a"], b"x-hop": [b"1", b"2"]},
        b"Host: a\r\naccept: x\r\n",
    )


def test_a_name_is_found_at_the_start_of_a_line_only():
    chosen = FieldFilter(field_pattern((b"host",)), passed=frozenset())
    block = b"\nX-Host: a\r\nHosts: b\r\nY: host: c\r\n\r\n"
    assert chosen.split(block) == ({}, block[1:-2])


def test_an_empty_block_is_a_block():
    check_block(b"\n\r\n", fields_max=0, too_many=431, fault=client_fault)
    assert FieldFilter(field_pattern((b"host",)), passed=frozenset()).split(b"\n\r\n") == ({}, b"")


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [(client_fault, DownstreamError, 431), (backend_fault, UpstreamError, 502)],
)
def test_a_fault_is_the_fault_of_who_sent_it(fault, error, status):
    with pytest.raises(error) as caught:
        check_block(BLOCK, fields_max=3, too_many=431, fault=fault)
    assert caught.value.status == status
    check_block(BLOCK, fields_max=4, too_many=431, fault=fault)


def test_fields_are_left_out_by_name():
    assert without_fields(BLOCK[1:-2], [b"x-hop", b"none"]) == b"Host: a\r\naccept: x\r\n"


def test_values_of_one_name_are_combined():
    assert combined(BLOCK, b"x-hop") == b"1, 2"
    assert combined(BLOCK, b"hop") is None
    assert combined(b"\n\r\n", b"x") is None


def test_a_list_may_be_spread_over_fields():
    assert list_items([b"A, b,,", b"", b" c "]) == [b"a", b"b", b"c"]
