"""Fuzzes one target with atheris: `python -m tests.fuzz codec --seconds 600`.

What the fuzzer finds worth keeping goes to a folder outside of git, and the next run goes on from
there; what fails is written beside it. `--replay FILE` runs one such input without atheris.
"""

import argparse
import hashlib
import importlib
import sys
from pathlib import Path

TARGETS = ("codec", "http", "members", "pins", "sealing", "turns", "words")
INPUT_BYTES_MAX = 2_048


def main() -> None:
    """Run until the time is over, or something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a target.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"))
    parser.add_argument("--replay", type=Path, help="run this input alone")
    chosen = parser.parse_args()
    if chosen.replay:
        importlib.import_module(f"tests.fuzz.{chosen.target}").check(chosen.replay.read_bytes())
        return
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install meshlb[fuzz]")
    with atheris.instrument_imports(include=["meshlb", "protocol", "tests.fuzz"]):
        target = importlib.import_module(f"tests.fuzz.{chosen.target}")
    corpus = chosen.corpus / chosen.target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        if len(seed) <= INPUT_BYTES_MAX:
            (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [
        f"-max_total_time={chosen.seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-artifact_prefix={chosen.corpus}/{chosen.target}-",
        "-print_final_stats=1",
        "-timeout=10",
        "-rss_limit_mb=1024",
    ]
    if words := getattr(target, "WORDS", ()):  # an empty dictionary ends libFuzzer
        file = chosen.corpus / f"{chosen.target}.words"
        file.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
        options.append(f"-dict={file}")
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    """A word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode("latin-1"))


if __name__ == "__main__":
    main()
