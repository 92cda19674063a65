"""Datasets, their versions and their images."""

from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, FailFast, Field

from topwork.kinds import (
    ClassSource,
    DatasetState,
    NameEncoding,
    ReportStatus,
    Severity,
    Split,
    SuspectKind,
)
from topwork.types.problems import Error
from topwork.types.training import SplitShares
from topwork.types.values import (
    Answer,
    Body,
    Counts,
    DatasetName,
    Links,
    Metadata,
    Moment,
    Open,
    fewer,
)

SHA256 = r"^[0-9a-f]{64}$"
MOST_NAMED = 200_000

# Python's names of encodings which are parts of others here.
_HELD_BY = {
    "utf_8": NameEncoding.UTF_8,
    "shift_jis": NameEncoding.CP932,
    "gbk": NameEncoding.GB18030,
    "gb2312": NameEncoding.GB18030,
    "big5": NameEncoding.CP950,
    "euc_kr": NameEncoding.CP949,
    "latin_1": NameEncoding.CP1252,
    "koi8_r": NameEncoding.KOI8_R,
}


def _encoding(value: Any) -> Any:
    """Accept an encoding under its other names, such as `Shift-JIS`, `GBK` or `windows-1251`."""
    if not isinstance(value, str) or not value.isascii():
        return value
    key = normalize_encoding(value.lower())
    name = aliases.get(key, key)
    return _HELD_BY.get(name, name)


ArchiveNames = Annotated[
    NameEncoding | None,
    BeforeValidator(_encoding),
    Field(
        description="Encoding of the names in an archive that does not state it, as old zips do"
        " not; found out where absent, and asked for where it cannot be.",
        examples=["gb18030", "cp850"],
    ),
]


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _layout(value: Any) -> Any:
    """Accept `outer` for `{"classes": "outer"}`."""
    return {"classes": value} if isinstance(value, str) else value


FolderPath = Annotated[str, Field(max_length=512)]
FolderPaths = Annotated[
    list[FolderPath],
    BeforeValidator(_list, json_schema_input_type=list[FolderPath] | FolderPath),
    Field(max_length=100),
]


class Layout(Body):
    """What the folders of an upload mean, where their names do not say it.

    Folders are named by their path in the upload, or from the folder below which there is more
    than one; `.` is that folder. Where a split is named, no other folder becomes one by its name.
    """

    train: FolderPaths = Field([], description="Folders that hold classes to train on.")
    val: FolderPaths = Field([], description="The same for the validation split.")
    test: FolderPaths = Field([], description="The same for the test split.")
    ignore: FolderPaths = Field([], description="Folders that are left out.")
    classes: ClassSource | None = Field(
        None,
        description="What names a file's class: the `outer` folder below the split, the `inner`"
        " one in which it lies, the whole `path` of folders, or its `filename` up to the number.",
    )
    labels: FolderPaths = Field(
        [],
        description="Tables in the upload that name the class of each image, by their paths; or"
        " `folders`, where the folders do and no table.",
    )
    label_column: str | None = Field(
        None, max_length=200, description="The column of these tables that is the class."
    )


class UploadReading(Body):
    """Answers to what an upload does not say itself; they are kept with its version."""

    name_encoding: ArchiveNames = None
    layout: Annotated[
        Layout | None,
        BeforeValidator(_layout, json_schema_input_type=Layout | ClassSource | None),
    ] = Field(
        None,
        description="What the folders mean; the error `layout_ambiguous` lists the values to"
        " choose from. A word alone is the field `classes` of it.",
        examples=[{"classes": "outer"}, {"train": ["photos"], "ignore": ["drafts"]}],
    )

    def answers(self) -> dict[str, Any]:
        """Return what was said, as JSON."""
        fields = set(UploadReading.model_fields)
        return self.model_dump(mode="json", include=fields, exclude_defaults=True)


UploadId = Annotated[str, Field(pattern=r"^up_[0-9a-z]{22}$")]
Files = Annotated[dict[str, int], Field(examples=[{"not_an_image": 2}])]


class Finding(Answer):
    """Something a user should know about the data."""

    code: str = Field(description="Stable word for it.", examples=["class_too_small"])
    severity: Open[Severity] = Field(description="How much it matters.")
    message: str = Field(description="The same in words.")
    count: int = Field(description="How many images, classes or splits it is about.")
    examples: list[str] = Field(description="The first few of them.")


class DatasetVersion(Answer):
    """One immutable version: which images, under which class, in which split."""

    object: Literal["dataset_version"] = Field(
        "dataset_version", description="Always `dataset_version`."
    )
    dataset: str = Field(description="Id of the dataset.")
    number: int = Field(description="1 for what was uploaded, then rising.")
    digest: str = Field(description="SHA-256 of the manifest.")
    classes: list[str] = Field(
        description="Frozen with the version; everything joins by these names."
    )
    counts: Counts
    images: int = Field(description="In all.")
    bytes: int = Field(description="Of all images.")
    reading: str = Field(
        description="How the upload was understood.",
        examples=["I see 2 classes (cat, dog) and 2 splits (train 8, val 2)."],
    )
    lost_classes: dict[str, Files] = Field(
        {},
        description="Classes that the upload names and of which no image can be used, with their"
        " files by reason; a job on this version needs `allow_lost_classes`.",
        examples=[{"cat": {"not_an_image": 6}}],
    )
    answers: dict[str, Any] = Field(
        {},
        description="What the request said about how to read the upload.",
        examples=[{"layout": {"classes": "outer"}}],
    )
    findings: list[Finding] = Field(description="What a user should know about it.")
    skipped: Files = Field(description="Files with nothing to read, by reason.")
    rejected: Files = Field(description="Files that were refused, by reason.")
    created_at: Moment = Field(description="When it was made.")
    links: Links


class Dataset(Answer):
    """A named set of labelled images."""

    id: str = Field(description="`ds_...`.")
    object: Literal["dataset"] = Field("dataset", description="Always `dataset`.")
    name: str = Field(description="Given, or that of the archive or folder.")
    state: Open[DatasetState] = Field(description="Whether it can be trained on.")
    job: str | None = Field(description="The job that reads, or has read, the upload.")
    error: Error | None = Field(description="Why it cannot.")
    metadata: dict[str, Any] = Field(description="Values of its owner's.")
    owner: str = Field(description="Whose key sent it.")
    created_at: Moment = Field(description="When it was sent.")
    latest: DatasetVersion | None = Field(description="The newest version.")
    links: Links


class Suspect(Answer):
    """Why somebody should look at an image, as heads or networks say that had not seen it."""

    finding: Open[SuspectKind] = Field(description="What may be wrong with it.")
    score: float = Field(
        description="0..1: 1 minus the probability of its class, or, of an outlier, 1 minus its"
        " similarity to known images."
    )
    likely: str | None = Field(
        description="The most probable class, as `relabel` takes it; null for an outlier."
    )
    model: str = Field(description="Whose evaluation says so.")


class Image(Answer):
    """One image of a version."""

    sha256: str = Field(description="Of its file; names it.")
    path: str = Field(description="As uploaded.")
    class_name: str = Field(alias="class", description="Its class.")
    split: Open[Split] = Field(description="What it is for.")
    width: int = Field(description="Upright, in pixels.")
    height: int = Field(description="Upright, in pixels.")
    bytes: int = Field(description="Of its file.")
    findings: list[str] = Field(description="Codes of what is remarkable about it.")
    suspect: Suspect | None = Field(
        None, description="Why it is listed, where `finding` is one of suspects."
    )
    links: Links


class ReportLine(Answer):
    """A file that is not used, or something a user should know about one that is."""

    id: int = Field(description="Number of the line.")
    path: str = Field(description="As uploaded, or a class or split.")
    status: Open[ReportStatus] = Field(description="What became of it.")
    code: str = Field(description="Stable word for the reason.")
    message: str = Field(description="The same in words.")
    other_path: str | None = Field(None, description="The copy of the image that is the reason.")


class DatasetPatch(Body):
    """What can be changed about a dataset."""

    name: DatasetName | None = Field(None, description="Its new name.")
    metadata: Metadata | None = Field(None, description="Replaces all earlier values.")


class SplitRequest(SplitShares):
    """How an upload without `val` and `test` folders is divided; the seed decides which images."""

    seed: int = Field(42, ge=0, le=2**32 - 1, description="The same seed draws the same images.")


class DatasetForm(UploadReading):
    """The fields beside the files of `POST /datasets`."""

    name: DatasetName | None = Field(None, description="Default is the archive's or folder's.")
    metadata: Metadata = Field({}, description="Up to 32 values of your own.")
    split: SplitRequest = Field(default_factory=SplitRequest, description="How it is divided.")


class DatasetRequest(DatasetForm):
    """A dataset from an upload that came in pieces."""

    upload: UploadId = Field(description="Id of a complete upload, `up_...`; it is used up.")


def _first_wrong(value: Any) -> Any:
    """Leave of an object with members that are no text the first such, which alone is explained."""
    if not isinstance(value, dict):
        return value
    wrong = ({name: one} for name, one in value.items() if not isinstance(one, str))
    return next(wrong, value)


class DatasetVersionRequest(Body):
    """A new version: another one with images left out, relabelled, confirmed or split anew."""

    base: int | None = Field(
        None, ge=1, le=2**31 - 1, description="Version to start from; the newest where absent."
    )
    exclude: Annotated[list[str], FailFast()] = Field(
        [], max_length=MOST_NAMED, description="SHA-256 of images to leave out."
    )
    relabel: Annotated[dict[str, str], BeforeValidator(_first_wrong), fewer(MOST_NAMED)] = Field(
        {},
        max_length=MOST_NAMED,
        description="SHA-256 of an image to the class it belongs to.",
    )
    confirm: Annotated[list[str], FailFast()] = Field(
        [],
        max_length=MOST_NAMED,
        description="SHA-256 of images whose label was looked at and is right; they are listed as"
        " `label_suspect` no more.",
    )
    split: SplitRequest | None = Field(
        None, description="Split anew; without it every image stays in its split."
    )
