import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers import run_peer
from benchmarks.results import PeersMissingError


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peers, "_PYTHON", Path(sys.executable))
    return tmp_path / "peer.py"


def test_a_peer_is_given_its_arguments_and_one_thread_and_answers_in_json(script: Path) -> None:
    script.write_text(
        "import json, os, sys; print(json.dumps({'a': sys.argv[1:], 't': os.environ['OMP_NUM_THREADS']}))"
    )
    assert run_peer(script, Path("folder"), 3) == {"a": ["folder", "3"], "t": "1"}


def test_a_peer_that_fails_says_what_it_said(script: Path) -> None:
    script.write_text("import sys; print('so far'); sys.exit('no such folder')")
    with pytest.raises(RuntimeError, match=r"peer\.py ended with 1\. It said:\nso far\nno such folder"):
        run_peer(script)


def test_a_missing_environment_is_one_sentence_and_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(peers, "_PYTHON", tmp_path / ".venv-peers" / "bin" / "python")
    with pytest.raises(
        PeersMissingError, match=r"Cannot run cleanvision_pass\.py: there is no \.venv-peers/bin/python"
    ):
        run_peer("cleanvision_pass", tmp_path)


def test_every_peer_script_names_what_the_peers_environment_has() -> None:
    lock = (Path(peers.__file__).parents[1] / "requirements" / "peers.lock").read_text()
    assert all(f"\n{name}==" in lock for name in ("cleanvision", "faiss-cpu", "pillow"))
    assert "--hash=sha256:" in lock
    assert "http" not in lock
