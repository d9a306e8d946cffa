"""The file of keys, and the settings under which the orchestrator listens beyond loopback."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orchestrator.access import Keys
from orchestrator.settings import OrchestratorSettings
from services.settings import SettingsError


def test_a_key_is_shown_once_and_stored_as_a_hash(tmp_path: Path):
    """`counterpoint key` prints the key on standard output and its entry, with the hash only, on standard error."""
    command = [sys.executable, "-m", "counterpoint", "key", "physics"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    key = made.stdout.strip()
    assert key not in made.stderr
    assert tomllib.loads(made.stderr)["keys"][0]["tenant"] == "physics"
    path = tmp_path / "keys.toml"
    path.write_text(made.stderr, "utf-8")
    entry = Keys.load(path).tenant_of(key)
    assert entry is not None
    assert entry.tenant == "physics"
    assert Keys.load(path).tenant_of(key + "x") is None
    wrong = subprocess.run([*command[:-1], "a b"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "tenant" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "keys.toml"),
        ("", "keys"),
        ('[[keys]]\ntenant = "a"\nsha256 = "short"', "keys.0.sha256"),
        (f'[[keys]]\ntenant = "a"\nsha256 = "{"0" * 64}"\nunknown = 1', "unknown"),
        (f'[[keys]]\ntenant = "a"\nsha256 = "{"0" * 64}"\ntokens_per_day = 0', "tokens_per_day"),
    ],
)
def test_an_invalid_file_of_keys_is_refused(tmp_path: Path, text: str, message: str):
    """The error names the file and the field."""
    path = tmp_path / "keys.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        Keys.load(path)
    assert str(path) in str(caught.value)


def test_listening_beyond_loopback_requires_keys(tmp_path: Path):
    """Without keys the orchestrator listens beyond loopback only where anonymous use is allowed explicitly."""
    with pytest.raises(SettingsError, match="COUNTERPOINT_KEYS_FILE"):
        OrchestratorSettings.load(host="0.0.0.0")
    assert OrchestratorSettings.load(host="0.0.0.0", allow_anonymous=True)
    assert OrchestratorSettings.load(host="0.0.0.0", keys_file=tmp_path / "keys.toml")
    command = [sys.executable, "-m", "counterpoint", "orchestrator", "--host", "0.0.0.0", "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert "COUNTERPOINT_ALLOW_ANONYMOUS" in refused.stderr
    assert json.dumps(refused.stdout) == '""'
