"""Settings: every one in one frozen object, read once at a process's edge and passed in."""

import sys
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.system.addresses import check_typed, file_url, sqlite_url, with_password
from core.system.secrets import SHORTEST, is_placeholder, read_files

MEBIBYTE = 1024 * 1024
MAKE_ONE = "make one: openssl rand -hex 24"


class Settings(BaseSettings):
    """Configuration from `TOPWORK_*` environment variables and defaults.

    Raises:
        pydantic.ValidationError: A variable cannot be read as its type or lies out of its range.
    """

    model_config = SettingsConfigDict(
        env_prefix="TOPWORK_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Field(
        Path("~/.topwork"), description="Folder that holds everything the service keeps."
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL; empty means SQLite inside the data folder."
    )
    run_dir: Path = Field(
        Path(), description="Folder of the service's sockets; empty means inside the data folder."
    )
    broker_url: str = Field(
        "", description="Redis or Valkey URL; empty means the embedded Valkey of `topwork up`."
    )
    storage_url: str = Field(
        "", description="Object storage (file:// or s3://); empty means inside the data folder."
    )
    weights_dir: Path = Field(
        Path(), description="Folder of pretrained weights; empty means inside the data folder."
    )
    predictor_url: str = Field(
        "", description="http://host:port of the predictor; empty means its unix socket."
    )
    admin_key: SecretStr = Field(
        SecretStr(""),
        description="Bearer key of 20 characters or more; empty leaves a loopback service open to"
        " this host.",
    )
    admin_key_file: Path | None = Field(
        None, description="File that holds the admin key, in place of the variable."
    )
    database_url_file: Path | None = Field(
        None, description="File that holds the database's URL, in place of the variable."
    )
    broker_url_file: Path | None = Field(
        None, description="File that holds the broker's URL, in place of the variable."
    )
    database_password: SecretStr = Field(
        SecretStr(""),
        description="Password, of any characters, for a database URL that has none.",
    )
    database_password_file: Path | None = Field(
        None, description="File that holds the database's password, in place of the variable."
    )
    broker_password: SecretStr = Field(
        SecretStr(""), description="Password, of any characters, for a broker URL that has none."
    )
    broker_password_file: Path | None = Field(
        None, description="File that holds the broker's password, in place of the variable."
    )
    storage_secret_key: SecretStr = Field(
        SecretStr(""), description="Secret key of a bucket, in place of AWS_SECRET_ACCESS_KEY."
    )
    storage_secret_key_file: Path | None = Field(
        None, description="File that holds the bucket's secret key, in place of the variable."
    )
    trusted_hosts: str = Field(
        "",
        description="Names, separated by commas, as which the service answers besides localhost;"
        " empty means any, once there is a key.",
    )
    webhooks_to_private_addresses: bool = Field(
        False,  # noqa: FBT003 - the default of a setting.
        description="Let webhooks be sent to private, loopback and link-local addresses.",
    )
    cors_origins: str = Field(
        "",
        pattern=r"^(https?://[^*,/\s]+(,\s*https?://[^*,/\s]+)*)?$",
        description="Origins, separated by commas, whose pages may use the API with a key.",
    )
    trusted_proxies: str = Field(
        "",
        pattern=r"^[0-9a-fA-F.:/,\s]*$",
        description="Addresses or networks, separated by commas, of proxies whose X-Forwarded-For"
        " and X-Forwarded-Proto are believed.",
    )
    failed_auth_per_minute: int = Field(
        10, gt=0, description="Wrong keys from one address in a minute before the answer is 429."
    )
    key_requests_per_minute: int = Field(
        12_000, ge=0, description="Requests of one key before the answer is 429; 0: no limit."
    )
    address_requests_per_minute: int = Field(
        24_000, ge=0, description="The same for one address; neither counts without any key."
    )
    public_docs: bool = Field(
        default=False, description="Show /docs to other machines too; it needs no key there."
    )
    default_model: str = Field(
        "mobilenet_v2", description="Model that answers POST /predict when none is named."
    )
    offline: bool = Field(default=False, description="Never try to download pretrained weights.")
    download_timeout: float = Field(
        5.0, gt=0, description="Seconds after which an unreachable weights host is given up."
    )

    lease_seconds: float = Field(30.0, gt=0, description="How long a claim lasts unrenewed.")
    heartbeat_seconds: float = Field(5.0, gt=0, description="How often a worker renews a claim.")
    sweep_seconds: float = Field(10.0, gt=0, description="How often lost jobs are looked for.")
    cancel_grace_seconds: float = Field(
        8.0, ge=0, description="Time between asking a job's process to stop and killing it."
    )
    hung_seconds: float = Field(
        300.0, gt=0, description="A job whose process reports nothing for so long is restarted."
    )
    checkpoint_seconds: float = Field(
        60.0,
        ge=0,
        description="How often, at most, a running job's checkpoint goes to a storage that other"
        " hosts reach.",
    )
    max_attempts: int = Field(
        3, ge=1, description="Crashes without progress after which a job counts as poison."
    )
    max_losses: int = Field(
        20,
        ge=1,
        description="Losses of its worker or machine, in a row and without progress, after which"
        " a job fails with worker_lost.",
    )
    disk_reserve_bytes: int = Field(
        1024 * MEBIBYTE,
        ge=0,
        description="Disk, at most a twentieth of it, that stays free beside what comes; with less,"
        " jobs wait and uploads are refused.",
    )
    gc_seconds: float = Field(
        3600.0, gt=0, description="How often storage is searched for what no row refers to."
    )
    gc_grace_seconds: float = Field(
        86400.0, ge=0, description="Age from which an object that no row refers to is removed."
    )
    cache_bytes: int = Field(
        8192 * MEBIBYTE,
        ge=0,
        description="Disk for decoded images and features that later jobs use again; 0 keeps none.",
    )
    warm_start: bool = Field(
        default=True,
        description="Keep a process that has imported the trainer's libraries (some 400 MB), so"
        " that a job starts within a second; never with less than 2 GiB of memory.",
    )

    max_connections: int = Field(
        4096,
        gt=0,
        description="Open connections of one api process, at most a quarter of its descriptors;"
        " one more is answered with 503.",
    )
    max_streams_per_owner: int = Field(
        200, gt=0, description="Open event streams of one owner in one api process."
    )
    max_request_bytes: int = Field(64 * 1024, gt=0, description="Largest JSON body.")
    max_predict_bytes: int = Field(
        20 * MEBIBYTE, gt=0, description="Largest body of POST /predict."
    )
    max_predict_images: int = Field(
        16, gt=0, le=100, description="Most images in one POST /predict."
    )
    max_archive_bytes: int = Field(
        4096 * MEBIBYTE, gt=0, description="Largest uploaded archive or form."
    )
    max_open_uploads: int = Field(
        20, gt=0, description="Most resumable uploads of one owner that are not used yet."
    )
    upload_hours: float = Field(
        24.0,
        gt=0,
        description="Hours after its creation in which a resumable upload must be used, and after"
        " its failed reading in which an upload is kept for an answer.",
    )
    max_upload_files: int = Field(20_000, gt=0, description="Most files in one multipart form.")
    max_archive_entries: int = Field(200_000, gt=0, description="Most members of an archive.")
    max_entry_bytes: int = Field(50 * MEBIBYTE, gt=0, description="Largest single member.")
    max_expanded_bytes: int = Field(
        40 * 1024 * MEBIBYTE, gt=0, description="Most bytes an archive may unpack to."
    )
    max_image_pixels: int = Field(
        36_000_000,
        gt=0,
        description="Largest image, in pixels; a baseline JPEG may have four times as many, and is"
        " decoded at half its size.",
    )
    max_queued_jobs: int = Field(1000, gt=0, description="Queue length at which POST answers 429.")
    max_queued_jobs_per_owner: int = Field(
        100, gt=0, description="The same for the jobs of one owner."
    )
    max_bytes_per_owner: int = Field(
        0,
        ge=0,
        description="Bytes of datasets, models, uploads and predictions of one owner; 0: no limit.",
    )

    predict_queue: int = Field(
        64,
        gt=0,
        description="Images waiting before POST /predict is 503 for whoever has some of them.",
    )
    predict_memory_bytes: int = Field(
        1024 * MEBIBYTE,
        gt=0,
        description="Memory for the bodies of predictions under way, half of it for one owner and"
        " never less than ten of the largest; beyond it the answer is 503 or 429.",
    )
    predict_wait_seconds: float = Field(
        20.0,
        ge=0,
        description="How long POST /predict waits for a predictor that starts before it is 503.",
    )
    predict_batch: int = Field(8, gt=0, description="Most images in one forward pass.")
    model_cache_bytes: int = Field(
        2048 * MEBIBYTE,
        gt=0,
        description="Memory for loaded models before the oldest is dropped; at most half of what"
        " the machine or its control group grants.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_data_dir(cls, values: dict[str, object]) -> dict[str, object]:
        """Derive the places that were not named from the data folder."""
        values = read_files(values)
        for service in ("database", "broker"):
            if password := values.get(f"{service}_password"):
                values[f"{service}_url"] = _with_password(service, values, password)
        data = _folder(values.get("data_dir") or "~/.topwork")
        values = {**values, "data_dir": data}
        values["database_url"] = values.get("database_url") or sqlite_url(data / "topwork.db")
        values["storage_url"] = values.get("storage_url") or file_url(data / "objects")
        values["run_dir"] = _folder(values.get("run_dir") or data / "run")
        values["weights_dir"] = _folder(values.get("weights_dir") or data / "weights")
        return values

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            message = "lease_seconds must be at least three heartbeats"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _key_withstands_guessing(self) -> Self:
        key = self.admin_key.get_secret_value()
        if is_placeholder(key):
            message = f"admin_key is a placeholder; {MAKE_ONE}"
            raise ValueError(message)
        if 0 < len(key) < SHORTEST:
            message = f"admin_key has fewer than {SHORTEST} characters; {MAKE_ONE}"
            raise ValueError(message)
        return self

    @property
    def predictor_socket(self) -> Path:
        """Unix socket on which the predictor listens when no URL is set."""
        return self.run_dir / "predictor.sock"


def read_settings() -> Settings:
    """Return the settings of this process, or end it with one line for each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        sys.exit("\n".join(explain(error)))


def explain(error: ValidationError) -> list[str]:
    """Return a line for each setting that is wrong: its name and what is wrong with it."""
    return [
        ": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")])
        for one in error.errors()
    ]


def _with_password(service: str, values: dict[str, object], password: object) -> str:
    """Return the URL of a service with its password, which may be a secret already."""
    plain = password.get_secret_value() if isinstance(password, SecretStr) else str(password)
    try:
        return with_password(str(values.get(f"{service}_url") or ""), plain)
    except ValueError as error:
        message = f"{service}_password: {error}"
        raise ValueError(message) from None


def _folder(named: object) -> Path:
    """Return the absolute path of a folder that a person named."""
    try:
        path = Path(str(named)).expanduser().resolve()
    except RuntimeError as error:  # `~somebody` who has no home here.
        raise ValueError(str(error)) from error
    check_typed(path)
    return path
