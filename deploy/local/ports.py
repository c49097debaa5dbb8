"""Hands out free TCP ports on 127.0.0.1 that no other stack on this machine is about to take."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import stat
from pathlib import Path

# Below 32768, where the kernel starts to pick ports for outgoing connections: a port from there may be gone
# between the test that it is free and the server's own bind.
FIRST_PORT = 20000
LAST_PORT = 32000
LOCK_DIRECTORY = Path("/tmp/tenantry-ports")

_reserved: dict[int, int] = {}  # port -> the descriptor whose lock holds it


def reserve_port(preferred: int | None = None) -> int:
    """Reserves a port until release_port or the end of this process; `preferred` when that one is free."""
    candidates = random.sample(range(FIRST_PORT, LAST_PORT + 1), LAST_PORT + 1 - FIRST_PORT)
    if preferred is not None:
        candidates.insert(0, preferred)
    for port in candidates:
        if _try_reserve(port):
            return port
    raise RuntimeError(f"no port from {FIRST_PORT} to {LAST_PORT} is free")


def reserve_ports(count: int) -> list[int]:
    """Reserves `count` different ports."""
    return [reserve_port() for _ in range(count)]


def release_port(port: int) -> None:
    """Gives a reserved port back; a port that is not reserved is left alone."""
    descriptor = _reserved.pop(port, None)
    if descriptor is not None:
        # The file stays: to remove it would let two processes lock two files of one name.
        os.close(descriptor)


def is_free(port: int) -> bool:
    """Whether a server could bind the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _try_reserve(port: int) -> bool:
    if port in _reserved or not is_free(port):
        return False
    descriptor = _open_lock(port)
    if descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    if not is_free(port):  # its holder may have started a server and gone between our look and our lock
        os.close(descriptor)
        return False
    _reserved[port] = descriptor
    return True


def _open_lock(port: int) -> int | None:
    """Opens the port's lock file to read, which is all a lock needs, so that any user's file will do."""
    _make_lock_directory()
    path = LOCK_DIRECTORY / str(port)
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        pass
    except OSError:
        return None  # a link, or a file closed to us: not ours to open
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return None  # another process made it this moment, and wants the port as well


def _make_lock_directory() -> None:
    """Makes the directory like /tmp itself: open to every user, each the owner of their own files."""
    try:
        LOCK_DIRECTORY.mkdir()
    except FileExistsError:
        pass
    else:
        LOCK_DIRECTORY.chmod(0o1777)  # apart from mkdir, whose mode the umask cuts
    if not stat.S_ISDIR(LOCK_DIRECTORY.lstat().st_mode):
        raise RuntimeError(f"{LOCK_DIRECTORY} is not a directory; please remove it")
