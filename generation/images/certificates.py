"""The certificates that this site signs its pictures with: of its own, or those of two settings.

Its own follow from WATERMARK_KEY, so that all hosts have the same without a file. What was signed with those of the settings
stays known when others take their place: all that were used are in a file of DATA_DIR.
"""

import hmac
import json
import logging
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings
from filelock import FileLock

logger = logging.getLogger(__name__)

KNOWN_FILE = "known_certificates.json"
"""The file in DATA_DIR with all certificates that the settings have named: a list of PEM texts."""

_OWN_BEGIN, _OWN_END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2056, 1, 1, tzinfo=UTC)
"""Nobody renews it, and without a time stamp a picture is valid as long as its certificate."""

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256 (NIST SP 800-186, section 3.2.1.3)."""

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_ALLOWED = "use an EC key (P-256, P-384, P-521), an Ed25519 key or an RSA key"


class CertificateError(Exception):
    """Key and certificates cannot be used; the message says why, and what is needed."""


class Identity(NamedTuple):
    """What a picture is signed with: the private key (PEM), its certificate and those above it (PEM), and the algorithm."""

    key: bytes
    chain: bytes
    algorithm: str


class KnownCertificate(NamedTuple):
    """A certificate of this site, now or earlier: its serial number, and the topmost certificate above it (PEM)."""

    serial_number: int
    anchor: str


def current() -> Identity:
    """Return what pictures are signed with now. The files are read again when they change.

    While those of the settings cannot be used, such as after they have expired, it is the site's own.
    """
    if settings.C2PA_CERTIFICATES and settings.C2PA_PRIVATE_KEY:
        try:
            identity = read(Path(settings.C2PA_PRIVATE_KEY), Path(settings.C2PA_CERTIFICATES))
        except CertificateError as error:
            logger.error("pictures are signed with the site's own certificate: %s", error)
        else:
            _remember(settings.DATA_DIR / KNOWN_FILE, identity.chain.decode())
            return identity
    return _own(settings.WATERMARK_KEY.encode())


def known() -> list[KnownCertificate]:
    """Return the certificates that this site signs with, and all that it has signed with before."""
    current()
    own = _own(settings.WATERMARK_KEY.encode()).chain.decode()
    return [_known(chain) for chain in (own, *_remembered(settings.DATA_DIR / KNOWN_FILE))]


def key_name(secret: bytes) -> str:
    """Return eight hexadecimal digits that name a watermark key without telling it; the site's own certificate has them."""
    return hmac.digest(secret, b"content credentials site", "sha256").hex()[:8]


def own_key_name() -> str:
    """Return the name of this site's watermark key."""
    return key_name(settings.WATERMARK_KEY.encode())


def read(key: Path, chain: Path) -> Identity:
    """Return the key and the certificates in these files. Raises `CertificateError`."""
    try:
        return _read(key, _version(key), chain, _version(chain))
    except OSError as error:
        raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=2)
def _read(key: Path, _key_version: tuple[int, int], chain: Path, _chain_version: tuple[int, int]) -> Identity:
    try:
        private_key = serialization.load_pem_private_key(key.read_bytes(), password=None)
        certificates = x509.load_pem_x509_certificates(chain.read_bytes())
    except (ValueError, TypeError) as error:
        raise CertificateError(f"Key or certificates are no PEM files without a password: {error}") from error
    match private_key:
        case ec.EllipticCurvePrivateKey() if private_key.curve.name in _CURVES:
            algorithm = _CURVES[private_key.curve.name]
        case ed25519.Ed25519PrivateKey():
            algorithm = "ed25519"
        case rsa.RSAPrivateKey():
            algorithm = "ps256"
        case _:
            raise CertificateError(f"Keys of this kind are not used for signatures of pictures; {_ALLOWED}")
    if private_key.public_key() != certificates[0].public_key():
        raise CertificateError("The first certificate is not that of the private key; put it before those above it")
    if certificates[0].not_valid_after_utc < datetime.now(UTC):
        raise CertificateError(
            f"The certificate has expired on {certificates[0].not_valid_after_utc:%Y-%m-%d}; renew it"
        )
    pem = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)
    return Identity(_key_pem(private_key), pem, algorithm)


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _remember(path: Path, chain: str) -> None:
    with FileLock(path.with_suffix(".lock")):
        chains = _remembered(path)
        if chain not in chains:
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps([*chains, chain], indent=1))
            draft.replace(path)


def _remembered(path: Path) -> list[str]:
    return list(json.loads(path.read_text())) if path.exists() else []


@lru_cache(maxsize=64)
def _known(chain: str) -> KnownCertificate:
    certificates = x509.load_pem_x509_certificates(chain.encode())
    anchor = certificates[-1].public_bytes(serialization.Encoding.PEM).decode()
    return KnownCertificate(certificates[0].serial_number, anchor)


@lru_cache(maxsize=2)
def _own(secret: bytes) -> Identity:
    """Return the identity that follows from a secret: a key, its certificate, and one above it.

    C2PA wants no certificate that signs itself; the profile of both is that of its specification 2.2, section 14.5.
    """
    root_key, key = _derived_key(secret, b"root"), _derived_key(secret, b"signer")
    site = key_name(secret)
    root_name, name = _name(f"Dreamsite {site} root"), _name(f"Dreamsite {site}")
    above = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        _builder(root_name, root_name, root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(above, critical=False)
        .sign(root_key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    certificate = (
        _builder(name, root_name, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    encoding = serialization.Encoding.PEM
    return Identity(_key_pem(key), certificate.public_bytes(encoding) + root.public_bytes(encoding), "es256")


def _derived_key(secret: bytes, purpose: bytes) -> ec.EllipticCurvePrivateKey:
    """Return a key of P-256 (FIPS 186-5, appendix A.2.1: a number with 64 bits more than its order, reduced)."""
    derived = HKDF(hashes.SHA256(), 40, salt=None, info=b"content credentials " + purpose).derive(secret)
    return ec.derive_private_key(int.from_bytes(derived, "big") % (_ORDER - 1) + 1, ec.SECP256R1())


def _key_pem(key: "ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey") -> bytes:
    no_password = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)


def _name(common_name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Dreamsite")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(identifier.key_identifier[:16], "big") | 1)
        .not_valid_before(_OWN_BEGIN)
        .not_valid_after(_OWN_END)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
