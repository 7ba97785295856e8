from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from tests.remote.certificates import Certificates, make_certificates
from wonder_ray.http.certificates import why_unusable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


def test_a_certificate_with_its_key_is_usable(made: Certificates) -> None:
    assert why_unusable(str(made.certificate), str(made.key)) is None


def test_a_key_of_another_certificate_is_not(made: Certificates, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    assert "MISMATCH" in (why_unusable(str(made.certificate), str(other.key)) or "")


def test_what_is_no_certificate_is_not(made: Certificates, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    assert "are no certificate" in (why_unusable(str(tmp_path / "text.pem"), str(made.key)) or "")
    assert "are no certificate" in (why_unusable(str(made.certificate), str(tmp_path / "text.pem")) or "")
    assert "cannot read" in (why_unusable(str(made.certificate), str(tmp_path / "none.pem")) or "")


def test_a_key_that_wants_a_password_is_not_asked_for(made: Certificates) -> None:
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    assert "is encrypted" in (why_unusable(str(made.certificate), str(made.key)) or "")
