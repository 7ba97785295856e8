"""The master key of an installation: API keys are hashed, and stored secrets encrypted, with what is derived from it.

It never lies in the database: whoever reads a dump of that learns neither a secret nor anything to try guesses on. It comes from
`$WONDER_MASTER_KEY` (64 hex digits; several, separated by commas: the first is used, the others still open what they have
closed), else from `master.key` in the storage folder, which is made when it is first needed.

>>> keys = MasterKeys([b"k" * 32])
>>> keys.open(keys.seal(b"value", "w/name"), "w/name", keys.newest)
b'value'
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wonder_ray.errors import SecretError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ENVIRONMENT_VARIABLE: Final = "WONDER_MASTER_KEY"
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_MEND: Final = f"give {ENVIRONMENT_VARIABLE} the key that was used, or put the old master.key back"


class MasterKeys:
    """The newest key and those before it.

    Attributes:
        newest: The id of the key in use.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {_id(key): key for key in keys}
        self.newest: Final = _id(keys[0])

    def __repr__(self) -> str:
        return f"MasterKeys({', '.join(self._keys)})"

    def knows(self, key_id: str) -> bool:
        """Whether this key is at hand."""
        return key_id in self._keys

    def hash(self, secret: str, key_id: str) -> bytes:
        """HMAC-SHA256 of an API key's secret with the pepper of a master key, which is at hand."""
        return hmac.digest(self._derived(key_id, "api-keys"), secret.encode(), "sha256")

    def seal(self, value: bytes, about: str) -> bytes:
        """Encrypt a value (AES-256-GCM) with the newest key; it opens only together with `about`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + _cipher(self._derived(self.newest, "secrets")).encrypt(nonce, value, about.encode())

    def open(self, sealed: bytes, about: str, key_id: str) -> bytes:
        """The value; a `SecretError` when the key is not at hand, or the text was tampered with."""
        from cryptography.exceptions import InvalidTag

        if key_id not in self._keys:
            raise SecretError(f"{about}: it was stored under master key {key_id}, which is not at hand: {_MEND}")
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return bytes(_cipher(self._derived(key_id, "secrets")).decrypt(nonce, text, about.encode()))
        except InvalidTag:
            raise SecretError(f"{about}: what is stored of it is damaged: put it again") from None

    def _derived(self, key_id: str, purpose: str) -> bytes:
        return hmac.digest(self._keys[key_id], f"wonder-ray {purpose} 1".encode(), "sha256")


def load_master_keys(path: Path | None, *, environment: str | None = None) -> Callable[[], MasterKeys]:
    """The keys of an installation, read (or made) when they are first asked for.

    Args:
        path: The file, if there is one; None in memory, where keys last as long as the process.
        environment: By default `$WONDER_MASTER_KEY`.

    Raises:
        StorageError: From the returned function: a key is malformed, or the file cannot be used.
    """
    given = os.environ.get(ENVIRONMENT_VARIABLE) if environment is None else environment
    found: list[MasterKeys] = []

    def keys() -> MasterKeys:
        if not found:
            texts = [text.strip() for text in given.split(",")] if given else [_from_file(path)]
            found.append(MasterKeys([_parsed(text, ENVIRONMENT_VARIABLE if given else str(path)) for text in texts]))
        return found[0]

    return keys


def keys_at_hand(path: Path, *, environment: str | None = None) -> MasterKeys | None:
    """The keys that there are, without making one; None when there are none yet.

    Raises:
        StorageError: A key is malformed, or the file cannot be read.
    """
    given = os.environ.get(ENVIRONMENT_VARIABLE) if environment is None else environment
    return load_master_keys(path, environment=environment)() if given or path.exists() else None


def _from_file(path: Path | None) -> str:
    if path is None:
        return secrets.token_hex(KEY_BYTES)
    try:
        if not path.exists():
            _make(path)
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the master key {path} cannot be used: {error}; {_MEND}") from error


def _make(path: Path) -> None:
    """Write a new key; of several processes that do so at once, the first one's stays."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_hex(KEY_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
    finally:
        aside.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parsed(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise StorageError(f"{where} is no master key: it is {2 * KEY_BYTES} hex digits (`openssl rand -hex {KEY_BYTES}`)")
    return key


def _id(key: bytes) -> str:
    return hashlib.sha256(b"wonder-ray master key id" + key).hexdigest()[:16]


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers import aead  # its import is for those who have secrets

    return aead.AESGCM(key)
