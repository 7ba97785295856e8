r"""Which filesystem a folder lies on: SQLite's locks and syncs cannot be trusted over a network.

>>> filesystem_of(Path("/home/me/x"), "/dev/sda1 / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n")
'nfs4'
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wonder_ray.errors import StorageError

# 9p is absent: it is the root of some container sandboxes, where the files are local.
NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "davfs"),
        *("ceph", "lustre", "gpfs", "beegfs", "pvfs2", "glusterfs", "gfs2", "ocfs2", "orangefs"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.goofys", "fuse.geesefs", "fuse.rclone", "fuse.mountpoint-s3"),
        *("fuse.blobfuse", "fuse.blobfuse2", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.juicefs", "fuse.davfs2"),
        *("fuse.JuiceFS", "fuse.s3ql", "fuse.alluxio-fuse", "fuse.seaweedfs", "fuse.moosefs", "fuse.mfs"),
    }
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def refuse_network(folder: Path, mounts: str | None = None) -> None:
    """Raise a `StorageError` if the folder lies on a network filesystem.

    Args:
        folder: An existing folder.
        mounts: The text of a mount table; this machine's (`/proc/mounts`, where there is one) by default.
    """
    kind = filesystem_of(folder, _mounts() if mounts is None else mounts)
    if kind in NETWORK:
        msg = (
            f"{folder} lies on a network filesystem ({kind}), where SQLite can lose or damage committed data; choose a folder on "
            "a local disk with --storage or WONDER_STORAGE"
        )
        raise StorageError(msg)


def filesystem_of(path: Path, mounts: str) -> str | None:
    """The type of the filesystem a path is on, by a mount table in the form of `/proc/mounts`; None when it is not told."""
    resolved = path.resolve()
    best, found = -1, None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 - device, mount point, type
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1]))
        # Of two mounts at one point the later one hides the earlier.
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
