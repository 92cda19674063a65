"""Tables and folders together: who is believed, what is asked, and what is left over is told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.ingest.archive import Limits
from core.ingest.dry_run import summarise
from core.ingest.split import Ratios
from tests.archives import folder, gzipped, picture, tar_of, zip_of
from tests.core.ingested import Ingest
from topwork.errors import LayoutAmbiguous, LayoutMismatch, TooFewClasses

FLAT = {f"images/{number}.png": picture(number) for number in range(8)}
LABELS = "file,label\n" + "".join(f"{n}.png,{('cat', 'dog')[n % 2]}\n" for n in range(8))
FOLDERS = folder("cat", "dog", count=4)


def counts(*images: int) -> dict[str, dict[str, int]]:
    return {
        split: {"cat": n, "dog": n}
        for split, n in zip(("train", "val", "test"), images, strict=False)
    }


@pytest.fixture
def look(tmp_path: Path) -> Any:
    def look(files: Mapping[str, bytes | str], layout: Any = None) -> dict[str, Any]:
        path = tmp_path / "upload"
        data = {name: it.encode() if isinstance(it, str) else it for name, it in files.items()}
        path.write_bytes(zip_of(data))
        return summarise(path, Limits(), Ratios(), {"layout": layout} if layout else {})

    return look


def test_what_is_left_over_on_both_sides_is_told(run: Ingest) -> None:
    files = FLAT | {f"images/{n}.png": picture(n) for n in (8, 9)} | {"images/10.png": b"broken"}
    rows = ["10.png,owl", "11.png,hen", "../12.png,hen", "9.png,cat", "9.png,dog", "3.png,dog"]
    labels = (LABELS + "\n".join(rows)).encode()
    for name, data in {"zip": zip_of(files | {"a.csv": labels}), "tar": tar_of(
        {"a.csv": labels} | files), "gzip": gzipped(tar_of(files | {"a.csv": labels}))
    }.items():  # fmt: skip
        done = run(data, name=name)
        assert done.codes == {
            "images/8.png": "no_label",
            "images/9.png": "multi_label",
            "images/10.png": "not_an_image",
            "11.png": "file_missing",
            "../12.png": "file_missing",
            "a.csv": "labels_from_table",
            "owl": "class_lost",
            "hen": "class_lost",
        }
        assert done.dataset["lost_classes"] == {
            "hen": {"file_missing": 2},
            "owl": {"not_an_image": 1},
        }
        assert "Classes or splits are from a.csv (file, label)." in done.dataset["reading"]
        assert done.places["images/4.png"][1] == "cat"


def test_several_labels_are_refused_with_their_number_and_never_cut(look: Any) -> None:
    flags = [f"{n}.png,{1 - n % 2},{int(n % 2 or n > 3)}" for n in range(8)]
    twice = ["7.png,1,0"]
    tags = "\n".join(["file,cat,dog", *flags, *twice])
    seen = look(FLAT | {"tags.csv": tags})
    assert seen["rejected"] == {"multi_label": 3}
    assert seen["counts"]["train"] == {"cat": 1, "dog": 2}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"split.csv": "file,split\n0.png,train\n"}, None),
        (
            {"train.txt": "cat/0.png\ncat/1.png\ndog/0.png\ndog/1.png", "val.txt": "cat/2\ndog/3"},
            counts(2, 1),
        ),
        (
            {"lists/testing_list.txt": "cat/0.png\ndog/1.png"},
            counts(2, 1, 1),
        ),
        (
            {
                "birds.csv": "filepaths,labels,data set\n"
                + "".join(
                    f"{c}/{n}.png,{c.upper()},{('train', 'train', 'valid', 'test')[n]}\n"
                    for c in ("cat", "dog")
                    for n in range(4)
                )
            },
            counts(2, 1, 1),
        ),
        (
            {
                "CUB/images.txt": "\n".join(
                    f"{n + 1} {path}" for n, path in enumerate(FOLDERS)
                ),
                "CUB/train_test_split.txt": "\n".join(f"{n + 1} {n % 2}" for n in range(8)),
                "CUB/classes.txt": "1 cat\n2 dog",
                "CUB/image_class_labels.txt": "\n".join(f"{n + 1} {1 + n // 4}" for n in range(8)),
            },
            counts(1, 1, 2),
        ),
    ],
    ids=["one row", "lists", "test alone", "column", "CUB"],
)  # fmt: skip
def test_official_splits_are_kept(look: Any, extra: dict[str, str], expected: Any) -> None:
    seen = look(FOLDERS | extra)
    if expected is None:
        assert seen["skipped"] == {"not_an_image": 1}
    else:
        assert seen["counts"] == expected


def test_a_file_that_no_list_names_is_told(look: Any) -> None:
    lists = {"train.txt": "cat/0\ncat/1\ndog/0\ndog/1", "test.txt": "cat/1\ncat/2\ndog/2"}
    seen = look(FOLDERS | lists)
    assert seen["skipped"] == {"not_in_split": 2}
    assert seen["counts"]["test"] == {"cat": 2, "dog": 1}, "named twice: held out"


def test_folders_of_splits_and_of_tables_count_where_no_column_does(look: Any) -> None:
    files = {f"{split}/{n}.png": picture(n + k) for k, split in ((0, "train"), (9, "test"))
             for n in range(8)}  # fmt: skip
    both = look(files | {"train.csv": LABELS, "test.csv": LABELS.replace("cat", "x").replace(
        "dog", "cat").replace("x", "dog")})  # fmt: skip
    assert both["counts"]["test"] == {"cat": 4, "dog": 4}
    kaggle = look(files | {"train.csv": LABELS, "sample_submission.csv": LABELS})
    assert kaggle["skipped"] == {"no_label": 8, "not_an_image": 1}
    assert kaggle["counts"] == {"train": {"cat": 3, "dog": 3}, "val": {"cat": 1, "dog": 1}}


CONTRARY = "path,label\n" + "".join(f"{p},{'ab'[n % 2]}\n" for n, p in enumerate(FOLDERS))
COLUMNS = "image,age,sex,dx\n" + "".join(f"{n},{n % 4},{'mf'[n % 2]},{'xy'[n // 4]}\n"
                                         for n in range(8))  # fmt: skip
SECOND = LABELS.replace("cat", "big").replace("dog", "small")


@pytest.mark.parametrize(
    ("files", "answers"),
    [
        (
            FOLDERS | {"a.csv": CONTRARY},
            {("cat", "dog"): {"labels": ["folders"]}, ("a", "b"): {"labels": ["a.csv"]}},
        ),
        (
            FLAT | {"meta.csv": COLUMNS},
            {
                ("0", "1", "2", "3"): {"labels": ["meta.csv"], "label_column": "age"},
                ("f", "m"): {"labels": ["meta.csv"], "label_column": "sex"},
                ("x", "y"): {"labels": ["meta.csv"], "label_column": "dx"},
            },
        ),
        (
            FLAT | {"a.csv": LABELS, "b.csv": SECOND},
            {("cat", "dog"): {"labels": ["a.csv"]}, ("big", "small"): {"labels": ["b.csv"]}},
        ),
    ],
    ids=["folders", "columns", "tables"],
)
def test_a_question_has_answers_that_work(look: Any, files: Any, answers: Any) -> None:
    with pytest.raises(LayoutAmbiguous) as asked:
        look(files)
    assert [it["value"] for it in asked.value.options] == list(answers.values())
    for classes, answer in answers.items():
        assert tuple(look(files, answer)["classes"]) == classes


def test_other_facts_about_images_are_no_labels(look: Any) -> None:
    sizes = "file,bytes\n" + "".join(f"{path},{n}\n" for n, path in enumerate(FOLDERS))
    seen = look(FOLDERS | {"sizes.csv": sizes, "meta.csv": COLUMNS, "log.txt": "cat/0.png is fine"})
    assert (seen["classes"], seen["skipped"]) == (["cat", "dog"], {"not_an_image": 3})


@pytest.mark.parametrize("layout", [{"labels": ["b.csv"]},
                                    {"labels": ["a.csv"], "label_column": "kind"}])  # fmt: skip
def test_an_answer_that_does_not_fit_is_refused(look: Any, layout: Any) -> None:
    with pytest.raises(LayoutMismatch):
        look(FLAT | {"a.csv": LABELS}, layout)


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt", "Names.lst"])
def test_a_list_of_images_names_no_classes(look: Any, name: str) -> None:
    numbers = "".join(f"images/{n}.png {n % 2}\n" for n in range(8))
    assert look(FLAT | {name: numbers})["classes"] == ["0", "1"]
    named = look(FLAT | {name: numbers, "synsets.txt": "cat\ndog\n"})
    assert named["classes"] == ["cat", "dog"]


@pytest.mark.parametrize("values", [range(8), "x" * 8, ["a.b", "a.c"] + ["a.d"] * 6], ids=str)
def test_a_single_column_of_facts_is_no_classes_beside_folders(look: Any, values: Any) -> None:
    rows = "".join(f"{path},{it}\n" for path, it in zip(FOLDERS, values, strict=True))
    assert look(FOLDERS | {"facts.csv": f"file,fact\n{rows}"})["classes"] == ["cat", "dog"]


def test_facts_answer_no_question_about_folders(look: Any) -> None:
    files = {f"{way}/{path}": it for way in ("train", "x") for path, it in FOLDERS.items()}
    sizes = "file,bytes\n" + "".join(f"{path},{900 + n}\n" for n, path in enumerate(files))
    with pytest.raises(LayoutAmbiguous, match="folders can be read in two ways"):
        look(files | {"sizes.csv": sizes})


def test_a_column_as_diverse_as_images_names_no_classes(look: Any) -> None:
    sums = "file,md5\n" + "".join(f"{n}.png,{n * 7919:032x}\n" for n in range(8))
    with pytest.raises(TooFewClasses):
        look(FLAT | {"sums.csv": sums})


@pytest.mark.parametrize(
    "head", ["file,kind,reviewed,blurred", "file,reviewed,kind,blurred", "file,kind,a,b,c"]
)
def test_flags_beside_a_class_are_no_classes(look: Any, head: str) -> None:
    names = head.split(",")
    columns = {"file": "{n}.png", "kind": "{c}"}
    rows = [
        [columns.get(it, "{f}").format(n=n, c="cd"[n % 2], f=n // 2 % 2) for it in names]
        for n in range(8)
    ]
    table = "\n".join([head, *map(",".join, rows)])
    with pytest.raises(LayoutAmbiguous) as asked:
        look(FLAT | {"meta.csv": table})
    assert "kind" in {it["value"]["label_column"] for it in asked.value.options}


def test_a_blank_column_is_nothing(look: Any) -> None:
    flags = "".join(f"{n}.png,,{n % 2},{1 - n % 2},\n" for n in range(8))
    assert look(FLAT | {"t.csv": f"file,notes,dog,cat,more\n{flags}"})["classes"] == ["cat", "dog"]
    kinds = "".join(f"{n}.png,,{'cd'[n % 2]},\n" for n in range(8))
    assert look(FLAT | {"t.csv": f"file,notes,kind,more\n{kinds}"})["classes"] == ["c", "d"]


def test_one_large_table_leaves_room_for_others(look: Any) -> None:
    seen = look(FLAT | {"a.csv": "x" * (65 * 1024 * 1024), "labels.csv": LABELS})
    assert seen["classes"] == ["cat", "dog"]
    found = {it["code"]: it["examples"] for it in seen["findings"]}
    assert found == {"labels_from_table": ["labels.csv"], "table_unreadable": ["a.csv"]}


def test_more_tables_than_are_read_are_told_once(look: Any) -> None:
    notes = {f"notes/{n:02}.txt": "sunny" for n in range(51)}
    seen = look(FOLDERS | notes)
    (found,) = seen["findings"]
    assert (found["code"], found["count"]) == ("table_unreadable", 1)
    assert found["examples"] == ["notes/00.txt"]


def test_a_row_without_a_split_is_of_the_rest(look: Any) -> None:
    splits = "file,split\n" + "".join(
        f"{path},{'test' if n % 4 == 3 else ''}\n" for n, path in enumerate(FOLDERS)
    )
    seen = look(FOLDERS | {"splits.csv": splits})
    assert (seen["skipped"], seen["counts"]) == ({}, counts(2, 1, 1) | {"test": counts(1)["train"]})


def test_what_is_ignored_may_hold_no_usable_image_at_all(look: Any) -> None:
    rows = "old/a.png,owl\nold/b.png,hen\n"
    files = FLAT | {"old/a.png": b"", "old/b.png": b"", "labels.csv": LABELS + rows}
    seen = look(files, {"labels": ["labels.csv"], "ignore": ["old"]})
    assert seen["classes"] == ["cat", "dog"]
    assert [it["code"] for it in seen["findings"]] == ["labels_from_table"]
