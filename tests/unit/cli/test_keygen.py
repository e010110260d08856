import base64

from meshlb.config.kinds import SECRET_BYTES
from tests.unit.cli.conftest import Invoke


def test_keygen_prints_a_new_secret_each_time(invoke: Invoke) -> None:
    first, second = invoke("keygen").stdout, invoke("keygen").stdout
    assert first != second
    assert len(base64.b64decode(first.strip(), validate=True)) == SECRET_BYTES
