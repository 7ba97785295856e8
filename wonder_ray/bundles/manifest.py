"""What a bundle says about itself: the file `.wonder/manifest.json` in it."""

from __future__ import annotations

import sys

import msgspec

from wonder_ray.errors import CodeBundleError

MANIFEST_NAME = ".wonder/manifest.json"
PICKLES_FOLDER = ".wonder/pickles"
FORMAT = 1


class Requirement(msgspec.Struct, frozen=True, order=True):
    """A module that the code imports and that is not packed: every node has to have it, or a `runtime_env` brings it."""

    module: str
    distribution: str
    version: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a bundle."""

    format: int = FORMAT
    targets: list[str] = []
    """`module:qualname` of the actions that are reached by import."""
    pickles: dict[str, str] = {}
    """Name of an action that travels by value -> its file in the bundle."""
    python: str | None = None
    """The Python version (`3.12`) that can read the pickles; None when there are none."""
    files: dict[str, int] = {}
    """Path -> size in bytes, of everything but the manifest."""
    requires: list[Requirement] = []

    def requirement(self, module: str) -> Requirement | None:
        """What the manifest says of the distribution that a module comes from."""
        top = module.partition(".")[0]
        return next((found for found in self.requires if found.module == top), None)


_decoder = msgspec.json.Decoder(Manifest)
_encoder = msgspec.json.Encoder(order="sorted")


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as its file; equal manifests give equal bytes."""
    return _encoder.encode(manifest)


def decode_manifest(data: bytes, sha256: str) -> Manifest:
    """The manifest of a bundle; a `CodeBundleError` when it is none, or one of a newer wonder-ray."""
    try:
        manifest = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise CodeBundleError(f"bundle {sha256[:12]}: its manifest cannot be read: {error}") from None
    if manifest.format > FORMAT:
        raise CodeBundleError(
            f"bundle {sha256[:12]} has format {manifest.format}, this wonder-ray reads up to {FORMAT}: upgrade it on this node"
        )
    return manifest


def python_version() -> str:
    """The version that decides whether a pickle of code can be read: `3.12`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
