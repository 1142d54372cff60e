"""Cut text into sentences and words.

A word is a run of letters and digits, which may hold single apostrophes and hyphens inside (don't, well-made), and
numbers dots and commas (3.5, 10,000); a run of dots; or any other single sign. So punctuation counts as words, as in
the Penn Treebank, but contractions stay whole.
"""

import html
import re
import unicodedata
from typing import Literal

Sentences = Literal["punctuation", "lines"]  # where sentences end

TAG = re.compile(r"</?(?!unk>)[a-z][^<>]*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
BREAK = re.compile(r"\s*<(?:br|/?p|/?div|hr)\b[^<>]*>\s*", re.IGNORECASE)  # tags that end a sentence
PARAGRAPH = re.compile(r"\n\s*\n")
QUOTES = str.maketrans({"‘": "'", "’": "'", "`": "'", "“": '"', "”": '"', "…": "..."})

# Corpora with a sentence a line may hold <unk> already.
WORD = re.compile(r"<unk>|[^\W_]+(?:(?:['-]|(?<=\d)[.,](?=\d))[^\W_]+)*|\.{2,}|\S")
END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")  # of a sentence, with the quotes and brackets that it closes

# What a dot follows without ending a sentence: titles, common abbreviations, and the initials of names, but not "I".
TITLE = r"\b(?:mr|mrs|ms|dr|jr|sr|st|prof|vs|etc|e\.g|i\.e)"
INITIAL = r"(?:^|[\s.(\"])[a-hj-z]"
ABBREVIATION = re.compile(rf"(?:{TITLE}|{INITIAL})\s?\.$", re.IGNORECASE)


def clean(text: str) -> str:
    """Text without markup, in lower case, with straight quotes; a paragraph ends where markup ends a sentence."""
    text = html.unescape(TAG.sub(" ", BREAK.sub("\n\n", text)))
    text = unicodedata.normalize("NFC", text).translate(QUOTES).lower()
    return "".join(character for character in text if character.isprintable() or character.isspace())


def split_sentences(text: str, ends: Sentences) -> list[str]:
    """Cut clean text into sentences.

    Args:
        text: what `clean` returned.
        ends: where sentences end: at . ! ? and between paragraphs, or with each line.
    """
    if ends == "lines":
        return [line for line in text.splitlines() if line.strip()]
    return [sentence for paragraph in PARAGRAPH.split(text) for sentence in split_paragraph(paragraph)]


def split_paragraph(text: str) -> list[str]:
    """Cut a paragraph behind each run of . ! ? that stands before white space."""
    sentences, start = [], 0
    for match in END.finditer(text):
        if not ABBREVIATION.search(text[start : match.end()]):
            sentences.append(text[start : match.end()])
            start = match.end()
    sentences.append(text[start:])
    return [sentence for sentence in sentences if sentence.strip()]


def split_words(sentence: str) -> list[str]:
    """Cut a clean sentence into words. None if no word has a letter or digit, such as a line of stars."""
    words: list[str] = WORD.findall(sentence)
    return words if any(character.isalnum() for character in sentence) else []
