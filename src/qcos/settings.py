"""Configuration, read once from the environment (``QCOS_*``). Every process of an installation reads the same."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from qcos.base.errors import Invalid, Problem
from qcos.base.limits import POLICY_DEADLINE_S


class Place(BaseModel):
    """Where a backend stands: a value of `Settings.places`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    region: str | None = Field(default=None, min_length=1, max_length=200)
    zone: Literal["sovereign", "cloud", "local"] | None = None
    on_premise: bool | None = None


class Settings(BaseSettings):
    """All settings of the server's processes; each field's environment variable is ``QCOS_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="QCOS_", extra="ignore", frozen=True)

    data: Path = Field(
        default=Path(".data"), description="Folder of keys, ledger files and the embedded database."
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="postgresql+psycopg:// URL of the role qcos_app; empty: the embedded PostgreSQL.",
    )
    database_admin_url: SecretStr = Field(
        default=SecretStr(""), description="URL of the database's owner; only for migrations."
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(
        default=8114, ge=0, le=65535, description="Port the API listens on; 0 takes a free one."
    )
    tenant: str = Field(
        default="default",
        min_length=1,
        max_length=200,
        description="Name of the first tenant, made by the first start.",
    )
    origin: str = Field(
        default="qcos.local/ledger", min_length=1, description="Name of the audit ledger in its checkpoints."
    )
    witnesses: Path | None = Field(
        default=None,
        description="File with the policy of the ledger's witnesses (C2SP tlog-policy); none: nobody cosigns.",
    )
    key_passphrase: SecretStr = Field(
        default=SecretStr(""), description="Passphrase of the key files; empty: protected by file mode only."
    )
    keystore: Literal["file", "pkcs11", "transit", "awskms"] = Field(
        default="file",
        description="What holds or wraps the keys: files, a PKCS#11 token, Vault's transit engine, or AWS KMS; see keystores.md.",
    )
    pkcs11_module: str = Field(default="", description="Path of the token's PKCS#11 module.")
    pkcs11_token: str = Field(
        default="", description="Label of the token, or serial: and its serial number, or slot: and the slot."
    )
    pkcs11_pin: SecretStr = Field(default=SecretStr(""), description="The token user's PIN.")
    pkcs11_pin_file: Path | None = Field(
        default=None, description="File (0600) of that PIN, instead of QCOS_PKCS11_PIN."
    )
    pkcs11_label: str = Field(
        default="qcos",
        min_length=1,
        max_length=40,
        description="What the labels of this installation's keys on the token begin with.",
    )
    transit_url: str = Field(default="", description="Vault or OpenBao server, https://...")
    transit_token_file: Path | None = Field(default=None, description="File (0600) of a token for it.")
    transit_role_id: str = Field(default="", description="AppRole to log in with instead of a token.")
    transit_secret_id_file: Path | None = Field(default=None, description="File (0600) of its secret id.")
    transit_approle_mount: str = Field(default="approle", description="Where the AppRole method is mounted.")
    transit_ca: str = Field(
        default="", description="PEM file of the CA of the server's certificate; empty: the system's."
    )
    transit_namespace: str = Field(default="", description="Namespace on the server, if it has them.")
    transit_mount: str = Field(default="transit", description="Where the transit engine is mounted.")
    transit_label: str = Field(
        default="qcos",
        min_length=1,
        max_length=40,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="What the names of this installation's keys on the server begin with.",
    )
    kms_region: str = Field(
        default="", description="AWS region of the keys; empty: as AWS's own programs find it."
    )
    kms_endpoint: str = Field(
        default="", description="URL of a private endpoint of AWS KMS; empty: the region's."
    )
    kms_wrapping_key: str = Field(
        default="", description="Symmetric KMS key that wraps: its id, ARN or alias/name."
    )
    kms_mldsa_key: str = Field(
        default="",
        description="ML_DSA_65 KMS key that signs evidence; empty: that key is a wrapped file.",
    )
    kms_countersigning_key: str = Field(
        default="", description="ECC_NIST_P384 KMS key that countersigns evidence; empty: none does."
    )
    policy_deadline_s: float = Field(
        default=POLICY_DEADLINE_S, gt=0, le=10, description="Seconds one policy evaluation may take."
    )
    policy_processes: int = Field(
        default=1, ge=1, le=64, description="Policy evaluation processes of the API."
    )
    circuit_processes: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Circuit reading processes of the API, 30 MB each; one tenant's jobs leave one of them to others.",
    )
    worm: str = Field(
        default="",
        description="WORM store of copies of ledger and evidence: file:/path or s3://bucket/prefix; empty: none.",
    )
    worm_endpoint: str = Field(default="", description="URL of an S3 server that is not AWS.")
    worm_region: str = Field(
        default="", description="Region of the WORM bucket; empty: as AWS's own variables say."
    )
    worm_days: int = Field(
        default=3650, ge=1, le=36500, description="Days the WORM copies of the ledger's files are protected."
    )
    worm_interval_s: float = Field(
        default=60.0, ge=0.2, le=86400, description="Seconds between two rounds of copying to the WORM store."
    )
    anchor_ethereum_url: str = Field(
        default="",
        description="JSON-RPC of an Ethereum-compatible node to anchor checkpoints with; empty: no.",
    )
    anchor_ethereum_key: Path = Field(
        default=Path("anchor.key"),
        description="File with the private key that pays for Ethereum anchors, hexadecimal.",
    )
    anchor_ethereum_confirmations: int = Field(
        default=12, ge=0, le=10_000, description="Blocks on top of an anchor's before it counts."
    )
    anchor_calendars: str = Field(
        default="", description="URLs of OpenTimestamps calendars, separated by white space; empty: no."
    )
    anchor_bitcoin_url: str = Field(
        default="", description="Server with Esplora's HTTP interface that tells Bitcoin's headers."
    )
    anchor_interval_s: float = Field(
        default=86_400.0, ge=1, le=31_622_400, description="Seconds between two anchors on a chain."
    )
    anchor_look_s: float = Field(
        default=60.0,
        ge=0.1,
        le=86_400,
        description="Seconds between two looks at anchors that are not confirmed.",
    )
    places: dict[str, Place] = Field(
        default={},
        description="Where backends stand, as you answer for it: a JSON object of driver or backend to any of `region`, `zone` "
        "(`sovereign`, `cloud`, `local`) and `on_premise`. Read by workers. No driver calls its backends sovereign by itself.",
    )
    worker_concurrency: int = Field(default=64, ge=2, le=1000, description="Jobs one worker has in hand.")
    tsa_urls: str = Field(
        default="local",
        min_length=1,
        description="Time-stamping authorities in the order of preference, apart by blanks: RFC 3161 URLs, and `local` for the own one.",
    )
    tsa_certificates: Path | None = Field(
        default=None,
        description="PEM file that pins the certificates of outside authorities and of their issuers.",
    )
    tsa_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="Seconds an outside authority or time source may take."
    )
    tsa_accuracy_ms: int = Field(
        default=1000, ge=1, le=60_000, description="Accuracy the local authority promises, milliseconds."
    )
    tsa_renewal_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="Days before a certificate expires that time stamps resting on it are renewed.",
    )
    time_sources: str = Field(
        default="",
        description="What the clock is compared with, apart by blanks: RFC 3161 URLs, roughtime:HOST:PORT:KEY; empty: nothing.",
    )
    time_poll_s: float = Field(
        default=60.0, ge=0.1, le=86_400, description="Seconds between two comparisons of the clock."
    )
    time_patience_s: float = Field(
        default=3600.0, ge=1, description="Seconds without a comparison before the clock counts as unwatched."
    )
    time_unwatched: Literal["allow", "refuse"] = Field(
        default="allow", description="Whether an unwatched clock may name the time (then with a warning)."
    )
    pool_size: int = Field(default=12, ge=2, le=200, description="Database connections of one process.")

    @property
    def keys(self) -> Path:
        """Return the folder of the key files."""
        return self.data / "keys"

    @property
    def ledger(self) -> Path:
        """Return the folder of tiles and checkpoints."""
        return self.data / "ledger"


def read_settings(data: Path | None = None) -> Settings:
    """Read the settings; ``data`` replaces what the environment says.

    Raises:
        Invalid: ``settings.invalid`` with each variable that is wrong.
    """
    try:
        return Settings(data=data) if data is not None else Settings()
    except SettingsError as error:  # a value that should be JSON
        raise Invalid(
            "settings.invalid", str(error)[:300], expected="JSON", hint="see docs/reference/configuration.md"
        ) from None
    except ValidationError as error:
        raise Invalid(
            "settings.invalid",
            "the environment's settings are not valid",
            problems=[
                Problem(
                    f"QCOS_{str(e['loc'][0]).upper()}",
                    e["msg"],
                    got=repr(e.get("input"))[:80],
                    code="settings.value",
                )
                for e in error.errors(include_url=False)
            ],
            hint="see docs/reference/configuration.md",
        ) from None
