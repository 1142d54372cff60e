"""Prepare text: cut it into sentences, choose a vocabulary, and write the sentences as shards.

The layout is that of Maas et al.'s reviews (aclImdb): a folder train, with test and perhaps valid beside it, that holds
text files, or folders of them, such as pos and neg. Or it is any folder of text files, which are split at random. Or it
has one file a split, with a sentence a line, such as ptb.train.txt, ptb.valid.txt and ptb.test.txt.

Sentences of fewer than 16 words are kept, with the vocabulary of 16,000, as in the published experiment on reviews (the
data of Diao et al., 2014, prepared as by Miyamoto and Cho, 2016).
"""

import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.sentences import Sentences, clean, split_sentences, split_words
from zfaudio.command import run_command
from zfaudio.corpus.splits import SPLITS, named_parts, split_at_random
from zfaudio.data.frame_shards import write_frame_shards
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.errors import UserError
from zfaudio.observations import END, LARGEST_VOCABULARY, SPECIAL_WORDS, UNKNOWN
from zfaudio.seeds import derive_seed


@dataclass(frozen=True)
class Layout:
    """The files of each split, and where sentences end in them."""

    files: dict[str, list[Path]]
    sentences: Sentences


@dataclass(frozen=True)
class Sentence:
    """The words of a sentence, and the file that it is from."""

    source: str
    words: list[str]


def text(
    corpus: str | Path,
    out: str | Path,
    *,
    vocabulary: int = 16_000,
    least_count: int = 2,
    longest: int = 15,
    sentences: Literal["auto", "punctuation", "lines"] = "auto",
    encoding: str = "utf-8",
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
) -> None:
    """Write shards of sentences to a folder: train, valid and test.

    Each sentence is an utterance, and each word a frame; the last one is </s>. The speaker is the file.

    Args:
        corpus: folder of text files; of train and test with files or folders of them, as in aclImdb; or of one file a
            split, such as train.txt, with a sentence a line.
        out: folder for the shards.
        vocabulary: greatest number of words, the most frequent ones of the training sentences, with <s>, </s> and
            <unk>. All others become <unk>.
        least_count: words that the training sentences have fewer times become <unk>, too. With 1, it may be that no
            training sentence has an <unk>.
        longest: longer sentences, in words and signs, are left out.
        sentences: where sentences end: at punctuation and the ends of paragraphs, or with the line. By default it is
            the line if there is one file a split, and punctuation otherwise.
        encoding: encoding of the files, such as latin-1.
        valid_fraction: fraction of the training files for validation, where the layout has none.
        test_fraction: fraction of the files for testing, where the layout has none.
        seed: seed of the split and of the order of training sentences.
    """
    check_options(vocabulary, least_count, longest, encoding)
    layout = find_files(Path(corpus), valid_fraction, test_fraction, seed)
    ends = layout.sentences if sentences == "auto" else sentences
    kept: dict[str, list[Sentence]] = {}
    for split, files in layout.files.items():
        found = [sentence for path in files for sentence in read_sentences(path, Path(corpus), ends, encoding)]
        kept[split] = [sentence for sentence in found if len(sentence.words) <= longest]
        if not kept[split]:
            raise UserError(
                f"{corpus}: {split}: nothing is left; of {len(found)} sentences in {len(files)} files none has at most "
                f"{longest} words (--longest)"
            )
        print(f"{split}: {describe(kept[split], len(found))}")
    words = choose_words(kept["train"], vocabulary, least_count)
    random.Random(derive_seed("training sentences", seed)).shuffle(kept["train"])
    utterances = {split: frame_sentences(split, chosen, words) for split, chosen in kept.items()}
    write_frame_shards(out, utterances, kind="tokens", frame_size=1, vocabulary=words)
    for split, chosen in kept.items():
        print(f"{split}: {unknown_share(chosen, words):.2%} of the words are <unk>, </s> counted as a word")
    print(f"vocabulary: {len(words)} words")


def check_options(vocabulary: int, least_count: int, longest: int, encoding: str) -> None:
    """Raises UserError if an option is out of range."""
    smallest = len(SPECIAL_WORDS) + 1
    if not smallest <= vocabulary <= LARGEST_VOCABULARY:
        raise UserError(f"--vocabulary {vocabulary}: must be from {smallest} to {LARGEST_VOCABULARY}")
    for option, value in (("--least-count", least_count), ("--longest", longest)):
        if value < 1:
            raise UserError(f"{option} {value}: must be at least 1")
    try:
        "".encode(encoding)
    except LookupError:
        raise UserError(f"--encoding {encoding}: no such encoding of text; try utf-8 or latin-1") from None


def find_files(corpus: Path, valid_fraction: float, test_fraction: float, seed: int) -> Layout:
    """Find the files of each split.

    Raises:
        UserError: there is no such folder, it holds no text files, or too few to split.
    """
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder")
    folders = named_parts([path.name for path in corpus.iterdir() if path.is_dir()])
    if "train" in folders:
        files = {split: files_of_split(corpus / name) for split, name in folders.items()}
        return Layout(fill_up(files, valid_fraction, test_fraction, seed), "punctuation")
    single = {
        split: [path]
        for split in SPLITS
        for path in sorted(corpus.glob("*.txt"))
        if split in named_parts([re.split(r"[\W_]", path.stem)[-1]])
    }
    if "train" in single and len(single) > 1:
        return Layout({split: single[split] for split in SPLITS if split in single}, "lines")
    return Layout(fill_up({"train": text_files(corpus)}, valid_fraction, test_fraction, seed), "punctuation")


def files_of_split(folder: Path) -> list[Path]:
    """The text files in the subfolders of a folder, or if there are none, its own. aclImdb has lists beside folders."""
    files = text_files(folder)
    below = [path for path in files if path.parent != folder]
    return below or files


def text_files(folder: Path) -> list[Path]:
    """The text files in a folder and its subfolders, in the order of their names, without hidden ones."""
    found = sorted(path for path in folder.rglob("*.txt") if path.is_file())
    files = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise UserError(f"{folder}: no text files (*.txt)")
    return files


def fill_up(
    files: dict[str, list[Path]], valid_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[Path]]:
    """Take the splits that are missing out of the training files, at random."""
    by_name = {str(path): path for path in files["train"]}
    drawn = split_at_random(
        list(by_name),
        0.0 if "valid" in files else valid_fraction,
        0.0 if "test" in files else test_fraction,
        seed,
    )
    parts = {split: [by_name[name] for name in sorted(names)] for split, names in drawn.items() if names}
    filled = files | parts
    return {split: filled[split] for split in SPLITS if split in filled}


def read_sentences(path: Path, corpus: Path, ends: Sentences, encoding: str) -> Iterator[Sentence]:
    """Yield the sentences of a file, but not those without a letter or digit.

    Raises:
        UserError: the file is empty, or no text in this encoding.
    """
    try:
        content = path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        at = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise UserError(f"{path}: no text in {encoding}{at}; name its encoding, such as --encoding latin-1") from None
    if not content.strip():
        raise UserError(f"{path}: empty; delete it, or copy it again")
    if "\0" in content:
        raise UserError(f"{path}: no text in {encoding} (it holds NUL characters); name its encoding with --encoding")
    source = path.relative_to(corpus).with_suffix("").as_posix()
    for sentence in split_sentences(clean(content), ends):
        words = split_words(sentence)
        if words:
            yield Sentence(source, words)


def choose_words(sentences: Sequence[Sentence], vocabulary: int, least_count: int) -> list[str]:
    """The words by id: <s>, </s> and <unk>, and then by count, and alphabetically among words of the same count."""
    counts = Counter(word for sentence in sentences for word in sentence.words)
    frequent = [word for word, count in counts.items() if count >= least_count and word not in SPECIAL_WORDS]
    frequent.sort(key=lambda word: (-counts[word], word))
    return [*SPECIAL_WORDS, *frequent[: vocabulary - len(SPECIAL_WORDS)]]


def frame_sentences(split: str, sentences: Iterable[Sentence], words: Sequence[str]) -> Iterator[FramedUtterance]:
    """Yield each sentence as an utterance of ids, int16 [words + 1, 1], of which the last is </s>."""
    ids = {word: id for id, word in enumerate(words)}
    for index, sentence in enumerate(sentences):
        tokens = [*(ids.get(word, UNKNOWN) for word in sentence.words), END]
        frames = np.array(tokens, np.int16)[:, None]
        yield FramedUtterance(f"{split}-{index:07d}", sentence.source, 0.0, len(tokens), frames)


def unknown_share(sentences: Iterable[Sentence], words: Sequence[str]) -> float:
    """The fraction of <unk> among the words of sentences with their ends."""
    known = set(words) - {SPECIAL_WORDS[UNKNOWN]}
    total = unknown = 0
    for sentence in sentences:
        total += len(sentence.words) + 1
        unknown += sum(word not in known for word in sentence.words)
    return unknown / total


def describe(kept: Sequence[Sentence], found: int) -> str:
    """What is kept of the sentences that were found, in words."""
    words = sum(len(sentence.words) for sentence in kept)
    files = len({sentence.source for sentence in kept})
    return f"{len(kept)} of {found} sentences, {words} words, from {files} files"


if __name__ == "__main__":
    run_command(text, sys.argv[1:], prog="python -m data_prep.text")
