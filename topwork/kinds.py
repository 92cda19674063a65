"""Enums of the API: kinds, states, scopes. Standard library only.

`JobKind` is the registry of kinds of jobs. What else there is for each kind follows from its entry:
the worker's file of that name (`worker.kinds`), the rule of garbage collection for what it makes
(`core.domain.products`), the rows of `/metrics`, the links of its jobs, the words of the document.
"""

from enum import StrEnum
from typing import Self


class Phase(StrEnum):
    """What a running job does now."""

    PREPARING = "preparing"
    PLANNING = "planning"
    DECODING = "decoding"
    TRAINING = "training"
    PREDICTING = "predicting"
    EVALUATING = "evaluating"
    CALIBRATING = "calibrating"
    EXPORTING = "exporting"
    PUBLISHING = "publishing"


class Product(StrEnum):
    """What a job makes, as the `object` of its answer is called."""

    DATASET_VERSION = "dataset_version"
    MODEL_VERSION = "model_version"
    EXPORT = "export"
    PREDICTIONS = "predictions"


class Lane(StrEnum):
    """Which slots of a worker a kind of job takes, so that no short job waits behind a long one."""

    SHORT = "short"
    LONG = "long"


class JobKind(StrEnum):
    """What a job does.

    `ingest` reads an upload, `finetune` trains a model, `export` writes it for other programs,
    `import` takes one in, `predict` asks one about many images.
    """

    lane: Lane
    makes: Product
    phases: tuple[Phase, ...]
    """Besides `preparing`, with which each begins, and `publishing`, with which each ends."""

    def __new__(cls, word: str, lane: Lane, makes: Product, *phases: Phase) -> Self:
        """Return a kind with its facts: `NAME = word, lane, makes, phase, phase ...`."""
        kind = str.__new__(cls, word)
        kind._value_, kind.lane, kind.makes, kind.phases = word, lane, makes, phases
        return kind

    INGEST = "ingest", Lane.SHORT, Product.DATASET_VERSION, Phase.PLANNING, Phase.DECODING
    FINETUNE = (
        "finetune", Lane.LONG, Product.MODEL_VERSION,
        Phase.TRAINING, Phase.EVALUATING, Phase.CALIBRATING,
    )  # fmt: skip
    EXPORT = "export", Lane.LONG, Product.EXPORT, Phase.EXPORTING, Phase.EVALUATING
    IMPORT = "import", Lane.SHORT, Product.MODEL_VERSION
    PREDICT = (
        "predict", Lane.LONG, Product.PREDICTIONS, Phase.PREDICTING, Phase.EVALUATING,
    )  # fmt: skip

    @classmethod
    def making(cls, product: Product) -> tuple[Self, ...]:
        """Return the kinds that make such a thing."""
        return tuple(kind for kind in cls if kind.makes is product)


class JobState(StrEnum):
    """How far a job has come; a running one that was asked to stop is `pausing` or `cancelling`."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
STORED = tuple(s for s in JobState if s not in (JobState.PAUSING, JobState.CANCELLING))
"""The others are how a running job looks to whoever has asked it to stop."""


class EventKind(StrEnum):
    """What an event of a job is about."""

    STATE = "state"
    WAITING = "waiting"
    PHASE = "phase"
    PLAN = "plan"
    EPOCH = "epoch"
    NOTE = "note"
    PROGRESS = "progress"
    PAUSE_REQUESTED = "pause_requested"
    RESUME_REQUESTED = "resume_requested"
    CANCEL_REQUESTED = "cancel_requested"


class Lack(StrEnum):
    """What keeps a job from starting."""

    DATASET = "dataset"
    DISK = "disk"
    WORKER = "worker"
    SLOT = "slot"


class Priority(StrEnum):
    """Which of the queued jobs run first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class DatasetState(StrEnum):
    """Whether a dataset can be trained on."""

    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


class Split(StrEnum):
    """What images are for: to learn from, to choose the best epoch by, to measure at the end."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class ExportForm(StrEnum):
    """The form in which a dataset is downloaded; each can be uploaded again."""

    FOLDERS = "folders"  # A folder of each class below one of each split.
    CSV = "csv"
    IMAGEFOLDER = "imagefolder"  # Hugging Face's `metadata.jsonl`.
    COCO = "coco"
    LABEL_STUDIO = "label_studio"
    FIFTYONE = "fiftyone"


class GroupBy(StrEnum):
    """Which images go to one side of a split together."""

    NEAR_DUPLICATES = "near_duplicates"  # Those that show nearly the same.
    FOLDER = "folder"  # Those that lie in one folder.
    PATTERN = "pattern"  # Those in whose paths a regular expression finds the same.
    COLUMN = "column"  # Those of which a column of the label table says the same.
    NONE = "none"


class ReportStatus(StrEnum):
    """What became of a file: nothing to read, refused, or used and worth a look."""

    SKIPPED = "skipped"
    REJECTED = "rejected"
    FINDING = "finding"


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ModelSource(StrEnum):
    """`own`: fine-tuned here; `imagenet`: an architecture with its published weights."""

    OWN = "own"
    IMAGENET = "imagenet"


class ExportFormat(StrEnum):
    """A form in which a model leaves.

    One ONNX file, a program of `torch.export`, or its card and weights as they are.
    """

    ONNX = "onnx"
    TORCH = "torch"
    BUNDLE = "bundle"


class ResultStatus(StrEnum):
    """Whether an image could be classified."""

    OK = "ok"
    ERROR = "error"


class SuspectKind(StrEnum):
    """Why an image should be looked at; also the code of the finding."""

    LABEL = "label_suspect"
    OUTLIER = "outlier"


class AbstainReason(StrEnum):
    """Why an answer is not relied on: the image is like no known one, or its class is unsure."""

    UNKNOWN = "unknown"
    UNSURE = "unsure"


class Decision(StrEnum):
    """Whether an answer is relied on."""

    ACCEPT = "accept"
    ABSTAIN = "abstain"

    @classmethod
    def of(cls, reason: AbstainReason | None) -> "Decision":
        """Return the decision that follows from a reason to abstain, or from there being none."""
        return cls.ACCEPT if reason is None else cls.ABSTAIN


class RejectMode(StrEnum):
    """Which answers are not relied on: by the model's usual thresholds, or none."""

    AUTO = "auto"
    NONE = "none"


class ExplainMode(StrEnum):
    """How an answer is explained: by what each part of the image has added to it."""

    HEATMAP = "heatmap"


class Scope(StrEnum):
    """What a key is for: `train` includes `read` and `predict`, `admin` everything of everybody."""

    READ = "read"
    PREDICT = "predict"
    TRAIN = "train"
    ADMIN = "admin"


class MoveKind(StrEnum):
    """What has moved an alias."""

    SET = "set"  # Its owner's word.
    PROMOTION = "promotion"  # Evidence that passed a gate.
    ROLLBACK = "rollback"
    REMOVAL = "removal"


class WebhookEvent(StrEnum):
    """What a webhook may be told of."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    ALIAS_MOVED = "alias.moved"  # By a promotion, a rollback, or its owner's word.


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"  # Given up after three days.


class ClassSource(StrEnum):
    """What of a file's path names its class."""

    OUTER = "outer"  # The first folder below the split, whatever lies deeper.
    INNER = "inner"  # The folder in which the file lies.
    PATH = "path"  # All folders below the split, `mammal/cat`.
    FILENAME = "filename"  # The file's own name up to its number, `cat.17.jpg`.


class NameEncoding(StrEnum):
    """What the names in an archive may be written in: UTF-8, or an old code page."""

    UTF_8 = "utf-8"
    CP932 = "cp932"  # Shift-JIS
    EUC_JP = "euc_jp"
    GB18030 = "gb18030"  # Holds GB2312 and GBK.
    CP950 = "cp950"  # Big5
    CP949 = "cp949"  # Holds EUC-KR.
    CP874 = "cp874"
    CP850 = "cp850"
    CP437 = "cp437"
    CP737 = "cp737"
    CP852 = "cp852"
    CP857 = "cp857"
    CP862 = "cp862"
    CP866 = "cp866"
    CP1252 = "cp1252"  # Holds the letters of Latin-1.
    CP1250 = "cp1250"
    CP1251 = "cp1251"
    CP1253 = "cp1253"
    CP1254 = "cp1254"
    CP1255 = "cp1255"
    CP1256 = "cp1256"
    CP1257 = "cp1257"
    KOI8_R = "koi8-r"
