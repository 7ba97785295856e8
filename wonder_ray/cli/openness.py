"""What is open, and how to close it: the part of `wonder doctor` that is about security."""

from __future__ import annotations

import ipaddress
import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wonder_ray.cli.carrying import RAY_AUTH_MODE, token_at_hand, token_file
from wonder_ray.cli.check import Check
from wonder_ray.cli.ray_processes import DASHBOARD, GCS, ray_processes
from wonder_ray.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from wonder_ray.cli.ray_processes import RayProcess
    from wonder_ray.resources.access_records import StoredKey, StoredSecret
    from wonder_ray.resources.master_key import MasterKeys
    from wonder_ray.storage.layout import Layout

OTHERS: Final = 0o077
ENTERED: Final = 0o011
"""What a folder lets others do who look for a file below it."""
KEY_DAYS: Final = 90
"""An API key that is older, or was not used for so long, is told of."""
_CLOSING: Final = (
    "ray get-auth-token --generate && chmod 600 ~/.ray/auth_token, copy that file to every node and client, and start Ray anew "
    "everywhere with RAY_AUTH_MODE=token (a local Ray makes its own token)"
)
ENTRIES_MAX: Final = 10_000
SHOWN_MAX: Final = 5
_DAY_US: Final = 24 * 3600 * 1_000_000
_TOKEN: Final = "token"  # noqa: S105 - a mode of Ray
_MASTER_KEY: Final = "WONDER_MASTER_KEY"


def check_auth(running: Collection[RayProcess] | None = None) -> Check:
    """Whether Ray asks for a token: its ports run code. What runs here counts; where nothing does, what would be started."""
    found = ray_processes() if running is None else running
    heads = [each for each in found if each.kind == GCS and each.auth_mode is not None]
    open_ = [each for each in heads if each.auth_mode != _TOKEN]
    if open_:
        which = ", ".join(f"pid {each.pid} (RAY_AUTH_MODE {each.auth_mode})" for each in open_[:SHOWN_MAX])
        return Check(
            "auth", "warn", f"a Ray runs here that asks for no token: {which}; whoever reaches its ports runs code", _CLOSING
        )
    if heads:
        return _open_token() or Check("auth", "ok", f"the Ray that runs here asks for its token (pid {heads[0].pid})")
    mode = os.environ.get(RAY_AUTH_MODE)
    if mode == "disabled":
        return Check(
            "auth", "warn", "Ray's token check is off; whoever reaches its ports can run code", "export RAY_AUTH_MODE=token"
        )
    if mode != _TOKEN and not token_at_hand():
        return Check(
            "auth", "warn", "no Ray token is set up: a cluster of `ray start` accepts everybody who reaches it", _CLOSING
        )
    yet = "" if token_at_hand() else " (none is stored yet: one is made at the first start)"
    return _open_token() or Check("auth", "ok", f"Ray asks for its token{yet}")


def _open_token() -> Check | None:
    """Ray writes its token for everybody to read; a home folder may keep them out, or not."""
    path = token_file()
    if not path.is_file() or not _mode(path) & OTHERS or any(not _mode(folder) & ENTERED for folder in path.resolve().parents):
        return None
    why = f"others can read Ray's token, {path} (mode {_mode(path):o}); who has it runs code"
    return Check("auth", "warn", why, _chmod(path))


def check_dashboard(running: Collection[RayProcess] | None = None) -> Check:
    """Whether Ray's dashboard, which takes jobs, is reached from this host only."""
    name, found = "dashboard", ray_processes() if running is None else running
    dashboards = [each for each in found if each.kind == DASHBOARD]
    wide = [each for each in dashboards if not _is_loopback(each.options.get("host", ""))]
    if wide:
        where = ", ".join(f"{each.address} (pid {each.pid})" for each in wide[:SHOWN_MAX])
        asks = "asks for a token" if all(each.auth_mode == _TOKEN for each in wide) else "is not known to ask for a token"
        mend = "ray start --dashboard-host=127.0.0.1, and reach it through `ssh -L 8265:127.0.0.1:8265 HEAD`"
        message = f"Ray's dashboard listens beyond this host: {where}; it takes jobs, which are code, and {asks}"
        return Check(name, "warn", message, mend)
    if dashboards:
        return Check(name, "ok", f"on this host only: {', '.join(each.address for each in dashboards[:SHOWN_MAX])}")
    return Check(name, "ok", "no dashboard of Ray runs on this host")


def check_files(layout: Layout) -> Check:
    """Whether what lies in the storage folder can be read by others."""
    root = layout.root
    if not _mode(root) & OTHERS:
        return Check("files", "ok", "nobody but their owner gets at them")
    open_ = [path for path in _entries(layout) if _mode(path) & OTHERS]
    if not open_:
        return Check("files", "ok", "the folder is open to others, what is in it is not")
    shown = ", ".join(f"{path.relative_to(root)} ({_mode(path):o})" for path in open_[:SHOWN_MAX])
    more = f" and {len(open_) - SHOWN_MAX} more" if len(open_) > SHOWN_MAX else ""
    return Check("files", "warn", f"others get at {shown}{more}: inputs, results, code", f"chmod -R go= {shlex.quote(str(root))}")


def check_master_key(layout: Layout, keys: Collection[StoredKey], stored: Collection[StoredSecret]) -> Check:
    """Whether what API keys are hashed with, and secrets encrypted with, is there, and nobody else's."""
    from wonder_ray.resources.master_key import keys_at_hand

    name, path, given = "master key", layout.master_key, os.environ.get(_MASTER_KEY)
    try:
        at_hand = keys_at_hand(path)
    except StorageError as error:
        return Check(name, "fail", str(error))
    missing = _missing(at_hand, keys, stored)
    if missing:
        mend = f"give {_MASTER_KEY} the key that was used (several: separated by commas), or put the old {path.name} back"
        return Check(
            name, "fail", f"{missing} cannot be checked or opened: the master key that they were made with is away", mend
        )
    if at_hand is None:
        return Check(name, "ok", "none is needed yet; the first API key or secret makes one")
    where = f"from {_MASTER_KEY}" if given else f"in {path.name}, mode {_mode(path):o}"
    if path.is_file() and _mode(path) & OTHERS:
        why = f"{path} can be read by others (mode {_mode(path):o}): it opens every stored secret"
        return Check(name, "fail" if _mode(layout.root) & OTHERS else "warn", why, _chmod(path))
    return Check(name, "ok", f"{where}; it fits all that was made with it")


def check_keys(keys: Collection[StoredKey], now_us: int, hint: str = "") -> Check:
    """Whether API keys are old, or nobody uses them; `hint` is what `wonder` needs to find their registry."""
    good = [key.record for key in keys if key.record.revoked_us is None]
    good = [key for key in good if key.expires_us is None or key.expires_us > now_us]
    old = [key for key in good if (key.rotated_us or key.created_us) < now_us - KEY_DAYS * _DAY_US]
    idle = [key for key in good if (key.used_us or key.created_us) < now_us - KEY_DAYS * _DAY_US]
    for found, what, command in (
        (idle, f"were not used for {KEY_DAYS} days", "revoke"),
        (old, f"are older than {KEY_DAYS} days", "rotate"),
    ):
        if found:
            shown = ", ".join(f"{key.key_id} ({key.name})" for key in found[:SHOWN_MAX])
            more = f" and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
            commands = [f"wonder key {command} {key.key_id}{hint}" for key in found[:SHOWN_MAX]]
            return Check("keys", "warn", f"API keys {what}: {shown}{more}", " && ".join(commands))
    lasting = sum(key.expires_us is None for key in good)
    also = f", {lasting} of them without an end" if lasting else ""
    return Check("keys", "ok", f"{len(good)} API keys are good{also}")


def check_secret_files(stored: Collection[StoredSecret]) -> Check:
    """Whether files that secrets come from can be read by others, as far as they lie on this host."""
    places = [Path(each.record.location or "") for each in stored if each.record.provider == "file"]
    open_ = [path for path in places if path.is_file() and _mode(path) & OTHERS]
    if open_:
        shown = ", ".join(f"{path} (mode {_mode(path):o})" for path in open_[:SHOWN_MAX])
        shown += f" and {len(open_) - SHOWN_MAX} more" if len(open_) > SHOWN_MAX else ""
        return Check("secrets", "warn", f"secrets lie in files that others can read: {shown}", _chmod(*open_))
    return Check("secrets", "ok", f"{len(stored)} stored or referred to")


def _missing(at_hand: MasterKeys | None, keys: Collection[StoredKey], stored: Collection[StoredSecret]) -> str:
    def knows(key_id: str | None) -> bool:
        return key_id is None or (at_hand is not None and at_hand.knows(key_id))

    lost_keys = sum(key.record.revoked_us is None and not knows(key.pepper_id) for key in keys)
    lost_secrets = sum(not knows(each.master_key_id) for each in stored)
    found = [f"{count} {what}" for count, what in ((lost_keys, "API keys"), (lost_secrets, "secrets")) if count]
    return " and ".join(found)


def _entries(layout: Layout) -> Iterator[Path]:
    """What lies in the folder, and directly in its parts; of very many the first."""
    places = (layout.root, layout.runs, layout.blobs, layout.events, layout.trace_events, layout.eventlog, layout.logs)
    for place in places:
        with suppress(OSError), os.scandir(place) as entries:
            for count, entry in enumerate(entries):
                if count >= ENTRIES_MAX:
                    break
                yield Path(entry.path)


def _chmod(*paths: Path) -> str:
    return f"chmod 600 {' '.join(shlex.quote(str(path)) for path in paths)}"


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:  # gone meanwhile
        return 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
