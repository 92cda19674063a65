"""Find the encoding of an archive's names where the archive does not say it (pure).

Old zips and tars carry the bytes of whatever code page their writer used. A wrong guess becomes
the name of a class, so one encoding is chosen by the names of all folders together, and only on
clear evidence; else the answer is `NameEncodingUnknown`, a question. `chardet` ranks the readings.
Names are far too short for it alone, so what nobody would have typed is sorted out here before.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from topwork.errors import NameEncodingUnknown
from topwork.kinds import NameEncoding

SAMPLE_BYTES = 64 * 1024  # Of different names; more would only cost time.
SAMPLES = 100
SHOWN_NAMES, SHOWN_READINGS = 3, 5
CLEAR_LEAD = 4.0  # Times the next reading's score; bench/name_encodings.py shows what it costs.
LEAST_SCORE = 0.001
UNUSUAL = 0.1
ASCII = bytes(range(128))
DETECTORS_OWN = {NameEncoding.CP950: "big5hkscs", NameEncoding.EUC_JP: "euc_jis_2004"}

WORD = re.compile(r"[^\W\d_]+")
SIGNS = set("’·–—°№　、。・！（），：？＿－")  # noqa: RUF001 - these signs are meant.
# Between letters these are letters of another code page.
SIGN_IN_WORD = re.compile(r"[^\W\d_][–—°№][^\W\d_]")  # noqa: RUF001 - as above.
IDEOGRAPHIC = "ideographic"
IDEOGRAPHS = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC", "FULLWIDTH"}
# East Asian standards have the characters in frequent use in their first rows: (codec, last row).
FREQUENT = {
    NameEncoding.CP932: ("euc_jp", 0xCF),
    NameEncoding.EUC_JP: ("euc_jp", 0xCF),
    NameEncoding.GB18030: ("gb2312", 0xD7),
    NameEncoding.CP950: ("big5", 0xC6),
    NameEncoding.CP949: ("euc_kr", 0xC8),
}
# What languages of Latin script have beyond ASCII, by the main exemplars of Unicode's CLDR.
ALPHABETS = [
    set(letters)
    for letters in (
        "äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúü", "ãáâàçéêíóôõú", "àèéìîòù", "åäöæøé", "áæðéíóöúýþ",
        "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîșțşţ",
        "çğıöşüâîû", "äöšžõü", "ąčęėįšųūž", "āčēģīķļņšūž",
    )
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Guess:
    """A decision that rests on the names alone, with the first of them as they were read."""

    encoding: NameEncoding
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    encoding: NameEncoding
    texts: tuple[str, ...]
    natural: bool
    score: float

    def names(self) -> tuple[str, ...]:
        """Return the different names in their order."""
        return tuple(text.rstrip("/") for text in self.texts)


def decide(names: Sequence[bytes]) -> tuple[str, Guess | None]:
    """Return the encoding of an archive's names, and the guess where it is one.

    Args:
        names: All that are not ASCII and whose encoding the archive does not say.

    Raises:
        NameEncodingUnknown: Names of folders can be read in different ways.
    """
    evidence = _evidence(names)
    utf8 = NameEncoding.UTF_8
    if _reads(names, utf8) and any(_is_text(it.decode()) for it in evidence):
        return utf8, None
    readings = [it for it in _ranked(evidence) if _reads(names, it.encoding)]
    if not readings or not _leads(*readings):
        raise _question("The names in the archive can be read in different ways.", readings)
    best = readings[0]
    return best.encoding, Guess(best.encoding, best.names()[:SAMPLES])


def _reads(names: Iterable[bytes], encoding: str) -> bool:
    try:
        for name in names:
            name.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _evidence(names: Sequence[bytes]) -> list[bytes]:
    """Return different names of folders, or of files where only these are not ASCII.

    No double-byte code page has a slash inside a character, but most have a backslash.
    """
    parents = dict.fromkeys(name.rpartition(b"/")[0] for name in names)
    parts = dict.fromkeys(part for parent in parents for part in parent.split(b"/"))
    folders = [part + b"/" for part in parts if not part.isascii()]
    files = dict.fromkeys(_trimmed(name.rpartition(b"/")[2]) for name in names)
    found = folders or [file for file in files if file]
    ends = accumulate(map(len, found))
    return [name for name, end in zip(found, ends, strict=True) if end <= SAMPLE_BYTES]


def _trimmed(file: bytes) -> bytes:
    """Cut off what follows the last character that is not ASCII: a number, as a rule."""
    return file[: len(file.rstrip(ASCII)) + 1] if not file.isascii() else b""


def _ranked(evidence: Sequence[bytes]) -> list[_Reading]:
    """Return the readings in which these are names, the likeliest first."""
    every = [it for it in NameEncoding if _reads(evidence, it)]
    texts = {it: tuple(name.decode(it) for name in evidence) for it in every}
    names = {it: read for it, read in texts.items() if all(map(_could_be_name, read))}
    readings = names or {it: read for it, read in texts.items() if not any(_folders(read))}
    scores = _scores(b"\n".join(evidence), readings)
    found = []
    for it, read in readings.items():
        # Valid UTF-8 that reads like text was found before; the detector counts validity alone.
        natural = it is not NameEncoding.UTF_8 and _is_natural(read)
        usual = _frequent("".join(read), it) ** 2 if natural else UNUSUAL
        found.append(_Reading(it, read, natural, scores[it] * usual))
    return sorted(found, key=lambda reading: -reading.score)


def _scores(sample: bytes, encodings: Iterable[NameEncoding]) -> dict[NameEncoding, float]:
    """Return how well the bytes fit the languages of each encoding, 0 to 1."""
    import chardet  # noqa: PLC0415 - its models take half a second, and few archives need them.

    theirs = {it: DETECTORS_OWN.get(it, str(it)) for it in encodings}
    if not theirs:
        return {}
    found = chardet.detect_all(
        sample,
        ignore_threshold=True,
        compat_names=False,
        include_encodings=theirs.values(),
        no_match_encoding=next(iter(theirs.values())),
        empty_input_encoding=next(iter(theirs.values())),
    )
    by_name = {one["encoding"]: one["confidence"] for one in found}
    return {it: by_name.get(name, 0.0) for it, name in theirs.items()}


def _leads(best: _Reading, *others: _Reading) -> bool:
    """Tell whether a reading is beyond doubt; in what no folder depends on, it need not be."""
    folders = _folders(best.texts)
    rivals = [other.score for other in others if _folders(other.texts) != folders]
    if not rivals:
        return best.natural or not any(folders)
    return best.natural and best.score > max(LEAST_SCORE, CLEAR_LEAD * max(rivals))


def _folders(texts: Iterable[str]) -> list[str]:
    return [text.replace("\\", "/").rpartition("/")[0] for text in texts]


def _could_be_name(text: str) -> bool:
    """Tell whether somebody could have typed this: letters of one script, no stray signs."""
    typed = all(char.isascii() or char in SIGNS or _category(char) in "LM" for char in text)
    return typed and not SIGN_IN_WORD.search(text) and all(map(_could_be_word, WORD.findall(text)))


def _could_be_word(word: str) -> bool:
    scripts = _scripts(word)
    one = len(scripts - {"LATIN"}) <= 1 if scripts & {IDEOGRAPHIC, "HANGUL"} else len(scripts) <= 1
    bumps = any(a.islower() and b.isupper() and not (a + b).isascii() for a, b in pairwise(word))
    return one and not bumps


def _is_natural(texts: Iterable[str]) -> bool:
    """Tell whether a reading is usual: no word mixes scripts, one alphabet has all letters."""
    words = [word for text in texts for word in WORD.findall(text) if not word.isascii()]
    latin = {c for word in words if _scripts(word) == {"LATIN"} for c in word.lower()}
    letters = {char for char in latin if not char.isascii()}
    alphabet = not letters or any(letters <= alphabet for alphabet in ALPHABETS)
    scripts = {script for word in words for script in _scripts(word)} - {"LATIN"}
    thai = "THAI" not in scripts or _is_thai("".join(texts))
    alone = all(len(_scripts(word)) == 1 for word in words)
    return alphabet and thai and len(scripts) <= 1 and alone


def _frequent(text: str, encoding: NameEncoding) -> float:
    """Return the share of characters in frequent use; 1 where there is no such standard."""
    codec, last = FREQUENT.get(encoding, ("", 0))
    letters = [char.encode(codec, "replace") for char in text if not char.isascii() and codec]
    usual = sum(raw != b"?" and raw[0] <= last for raw in letters)
    return usual / len(letters) if letters else 1.0


def _is_thai(text: str) -> bool:
    """Tell Thai from Chinese bytes, which cp874 turns into consonants and letters out of use."""
    return any("\u0e30" <= char <= "\u0e4c" for char in text) and not set(text) & set(
        "\u0e03\u0e05"
    )


def _is_text(text: str) -> bool:
    """Tell whether valid UTF-8 is hardly anything else.

    Three bytes of a character in a row are no accident, nor are words of one script. A lone letter
    may be: the two bytes of many a Chinese character in GBK are `è` or `ë` in UTF-8.
    """
    if re.search("[A-Za-z][\u0300-\u036f]", text):  # As macOS writes accents.
        return True
    words = [word for word in WORD.findall(text) if len(word) > 1 and not word.isascii()]
    usual = any(
        _is_natural([word]) and (_scripts(word) != {"LATIN"} or re.search("[A-Za-z]", word))
        for word in words
    )
    return usual or any(char > "\u07ff" and _category(char) in "LMSNP" for char in text)


@lru_cache(4096)
def _category(char: str) -> str:
    return unicodedata.category(char)[0]


@lru_cache(4096)
def _script(char: str) -> str:
    """Return the script of a letter, with which its name begins."""
    script = unicodedata.name(char, "UNKNOWN").split(" ")[0]
    return IDEOGRAPHIC if script in IDEOGRAPHS else script


def _scripts(word: str) -> set[str]:
    return {_script(char) for char in word if _category(char) == "L"}


def _question(problem: str, readings: Sequence[_Reading]) -> NameEncodingUnknown:
    shown = {", ".join(it.names()[:SHOWN_NAMES]): it.encoding for it in reversed(readings)}
    likeliest = [*reversed(shown.items())][:SHOWN_READINGS]
    readable = "; ".join(f"{encoding} ({names})" for names, encoding in likeliest)
    told = f" They could be {readable}." if likeliest else ""
    hint = (
        "Say which in the field `name_encoding` (`--name-encoding` of the command), or pack the"
        " folder anew with a program that writes names in UTF-8."
    )
    question = NameEncodingUnknown(problem + told, param="name_encoding", hint=hint)
    question.options = [{"value": encoding, "meaning": names} for names, encoding in likeliest]
    return question
