"""Pictures with content credentials of others, by certificates of their own: of a camera, and of a service with models."""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from generation.images.manifests import ACTIONS, SETTINGS

CAPTURED = datetime(2026, 11, 3, 8, 15, tzinfo=UTC)
PERSON = "Jane Photographer"
PLACE = "47,22.5N"

_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_PERSONAL: tuple[dict[str, Any], ...] = (
    {
        "label": "stds.schema-org.CreativeWork",
        "data": {
            "@context": "https://schema.org",
            "@type": "CreativeWork",
            "author": [{"@type": "Person", "name": PERSON}],
        },
        "kind": "Json",
    },
    {
        "label": "c2pa.metadata",
        "data": {"@context": {"exif": "http://ns.adobe.com/exif/1.0/"}, "exif:GPSLatitude": PLACE},
        "kind": "Json",
    },
    {"label": "com.example.owner", "data": {"owner": PERSON}},
)


def by_camera(content: bytes, media_type: str = "image/jpeg", **options: Any) -> bytes:
    """Return a picture as a camera signs it: with its owner, a place, and a thumbnail."""
    options = {"name": "Contoso Camera", "assertions": _PERSONAL, "has_thumbnail": True, **options}
    return signed(content, media_type, "digitalCapture", **options)


def by_service(content: bytes, media_type: str = "image/png", **options: Any) -> bytes:
    """Return a picture as a service signs it that made it with a model."""
    return signed(content, media_type, "trainedAlgorithmicMedia", name="Fabrikam Pictures", **options)


def signed(
    content: bytes,
    media_type: str,
    source_type: str,
    *,
    name: str,
    generator: tuple[str, str] | None = None,
    assertions: Sequence[Mapping[str, Any]] = (),
    has_thumbnail: bool = False,
    thumbnail: bytes = b"",
    remote_url: str = "",
    is_embedded: bool = True,
) -> bytes:
    """Return a picture with a manifest that is signed by this name; its `generator` is a program and its version.

    With `remote_url` its XMP names a manifest there.
    """
    created = {
        "action": "c2pa.created",
        "when": f"{CAPTURED:%Y-%m-%dT%H:%M:%SZ}",
        "digitalSourceType": _TERMS + source_type,
    }
    program, version = generator or (name, "7")
    manifest: dict[str, Any] = {
        "claim_generator_info": [{"name": program, "version": version}],
        "format": media_type,
        "assertions": [{"label": ACTIONS, "data": {"actions": [created]}}, *assertions],
    }
    if thumbnail:
        manifest["thumbnail"] = {"format": "image/jpeg", "identifier": "thumbnail"}
    key, chain = _identity(name)
    info = c2pa.C2paSignerInfo("es256", chain, key, None)  # type: ignore[no-untyped-call]
    options = {**SETTINGS, "builder": {"thumbnail": {"enabled": has_thumbnail}}}
    file = io.BytesIO()
    with (
        c2pa.Context(c2pa.Settings.from_dict(options)) as context,
        c2pa.Builder(manifest, context) as builder,
        c2pa.Signer.from_info(info) as signer,
    ):
        if thumbnail:
            builder.add_resource("thumbnail", io.BytesIO(thumbnail))
        if remote_url:
            builder.set_remote_url(remote_url)
        if not is_embedded:
            builder.set_no_embed()
        builder.sign(signer, media_type, io.BytesIO(content), file)
    return file.getvalue()


def moved(signed_jpeg: bytes, jpeg: bytes) -> bytes:
    """Return a JPEG with the manifest of another one."""
    return jpeg[:2] + _manifest_segments(signed_jpeg) + jpeg[2:]


def _manifest_segments(jpeg: bytes) -> bytes:
    """Return the segments APP11 of a JPEG."""
    found, place = b"", 2
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        found += jpeg[place:end] if jpeg[place + 1] == 0xEB else b""
        place = end
    return found


@cache
def _identity(name: str) -> tuple[bytes, bytes]:
    """Return a key and its certificate, with this name and one above it."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate(f"{name} Root", root_key, f"{name} Root", root_key)
    leaf = _certificate(name, key, f"{name} Root", root_key)
    encoding = serialization.Encoding.PEM
    pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, leaf.public_bytes(encoding) + root.public_bytes(encoding)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    is_root = name == issuer
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    above = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(CAPTURED - timedelta(days=300))
        .not_valid_after(CAPTURED + timedelta(days=20_000))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, **usage), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not is_root:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])
