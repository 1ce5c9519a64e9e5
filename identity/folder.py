"""An identity folder: what a person, node, camera or broker keeps to prove who it is.

key.pem             the private key, mode 0600
chain.pem           the certificate, then its authority's
federation-ca.pem   the federation's certificate: the one thing trusted beforehand
directory.json      the federation's directory (optional until it is needed)
broker.addr         HOST:PORT of the broker (optional)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from comity.envelope import MAX_CHAIN
from comity.errors import ConfigError, InvalidInput
from identity import certificates, files, keys
from identity.directory import Directory
from identity.names import SpiffeId
from identity.signing import Signer

KEY_FILE = "key.pem"
CHAIN_FILE = "chain.pem"
FEDERATION_FILE = "federation-ca.pem"
DIRECTORY_FILE = "directory.json"
BROKER_FILE = "broker.addr"
MAX_ADDRESS_BYTES = 300
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFolder:
    """A folder whose key and certificate fit together. Nothing says yet that a directory accepts them."""

    path: Path
    spiffe: SpiffeId
    signer: Signer
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def load(cls, path: Path) -> IdentityFolder:
        """The identity in `path`.

        Raises:
            ConfigError: NO_IDENTITY (no such folder, or none), KEY_EXPOSED, BAD_KEY, BAD_CERTIFICATE or KEY_MISMATCH.
        """
        for name in (KEY_FILE, CHAIN_FILE):
            if not (path / name).is_file():
                raise ConfigError(
                    f"{path} is not an identity folder, it has no {name}: make one with comity identity issue",
                    reason="NO_IDENTITY",
                )
        key = keys.load_signing_key(path / KEY_FILE)
        file = path / CHAIN_FILE
        chain = certificates.from_pem(files.read(file, max_bytes=certificates.MAX_PEM_BYTES), what=str(file))
        if len(chain) > MAX_CHAIN:
            raise ConfigError(f"{file} must hold at most {MAX_CHAIN} certificates", reason="BAD_CERTIFICATE")
        signer = Signer(key=key, chain=tuple(certificates.der(c) for c in chain))
        return cls(path=path, spiffe=name_in(chain[0]), signer=signer, chain=chain)

    @property
    def directory_path(self) -> Path:
        """Where the directory is, if it is there."""
        return self.path / DIRECTORY_FILE

    @property
    def anchor_path(self) -> Path:
        """Where the federation's certificate is, if it is there."""
        return self.path / FEDERATION_FILE

    def federation_pem(self) -> bytes:
        """The federation's certificate in PEM, the only root for brokers.

        Raises:
            ConfigError: NO_FEDERATION (not there), or BAD_CERTIFICATE.
        """
        self._need(FEDERATION_FILE, "copy the federation's ca.pem there, from a source you trust", "NO_FEDERATION")
        data = files.read(self.anchor_path, max_bytes=certificates.MAX_PEM_BYTES)
        return certificates.pem(*certificates.from_pem(data, what=str(self.anchor_path)))

    def directory(self, *, minimum_version: int = 0) -> Directory:
        """The directory, verified with the federation's certificate beside it.

        Raises:
            ConfigError: NO_FEDERATION, NO_DIRECTORY, or as `Directory.load`.
        """
        self._need(FEDERATION_FILE, "copy the federation's ca.pem there, from a source you trust", "NO_FEDERATION")
        self._need(DIRECTORY_FILE, "copy the federation's current directory.json there", "NO_DIRECTORY")
        return Directory.load(self.directory_path, self.anchor_path, minimum_version=minimum_version)

    def broker_address(self) -> str:
        """HOST:PORT in `broker.addr`.

        Raises:
            ConfigError: NO_BROKER (not there) or BAD_ADDRESS.
        """
        self._need(BROKER_FILE, "write the broker's HOST:PORT into it, or name it with --broker", "NO_BROKER")
        data = files.read(self.path / BROKER_FILE, max_bytes=MAX_ADDRESS_BYTES)
        text = data.decode("ascii", errors="replace").strip()
        if not _ADDRESS.match(text) or not 0 < int(text.rpartition(":")[2]) < 65536:
            raise ConfigError(f"{self.path / BROKER_FILE} must hold HOST:PORT", reason="BAD_ADDRESS")
        return text

    def _need(self, name: str, remedy: str, reason: str) -> None:
        if not (self.path / name).is_file():
            raise ConfigError(f"{self.path} has no {name}: {remedy}", reason=reason)


def write_identity(
    path: Path, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate], *, federation_pem: bytes = b""
) -> None:
    """`path` is a new identity folder, mode 0700 if it had to be made.

    Raises:
        ConfigError: FILE_EXISTS (a key is never overwritten: `replace_chain` renews) or FILE_UNWRITABLE.
    """
    files.make_folder(path)
    keys.write_key(path / KEY_FILE, key)
    replace_chain(path, chain)
    if federation_pem:
        files.replace(path / FEDERATION_FILE, federation_pem, mode=files.PUBLIC)


def replace_chain(path: Path, chain: Sequence[x509.Certificate]) -> None:
    """The folder's certificates are `chain`; a program that loads meanwhile sees the old ones or the new ones.

    Raises:
        ConfigError: FILE_UNWRITABLE.
    """
    files.replace(path / CHAIN_FILE, certificates.pem(*chain), mode=files.PUBLIC)


def name_in(certificate: x509.Certificate) -> SpiffeId:
    """The name that a certificate claims; only a directory can prove it.

    Raises:
        ConfigError: BAD_CERTIFICATE, it has none.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        return SpiffeId.parse(uri)
    except (*certificates.BAD_DER, x509.ExtensionNotFound, InvalidInput):
        raise ConfigError("the certificate has no name of a federation", reason="BAD_CERTIFICATE") from None
