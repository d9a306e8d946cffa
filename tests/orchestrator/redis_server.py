"""A real Redis for tests, which can be killed and restarted on the files that it wrote."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from counterpoint.supervisor import free_port


class RedisServer:
    """A redis-server on its own port, which writes every change to disk before it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it on the files in its folder; return once it accepts connections."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout
        assert any(b"Ready to accept" in line for line in iter(self.process.stdout.readline, b""))

    def keys(self, pattern: str) -> bytes:
        """Return the names of its keys that match a pattern."""
        return subprocess.check_output(["redis-cli", "-p", str(self.port), "keys", pattern]).strip()

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        assert self.process
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def redis_server(folder: Path) -> Generator[RedisServer]:
    """Run a Redis server for as long as the context lasts."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
