"""How text is cut into sentences and words."""

import pytest

from data_prep.sentences import clean, split_sentences, split_words


def cut(text: str, ends="punctuation") -> list[str]:
    return [" ".join(split_words(sentence)) for sentence in split_sentences(clean(text), ends)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A film. Is it good? No!", ["a film .", "is it good ?", "no !"]),
        ("No end here", ["no end here"]),
        ("One<br /><br />two<p>three</p>four", ["one", "two", "three", "four"]),
        ("lines of one\nparagraph.\n\nAnother", ["lines of one paragraph .", "another"]),
        ('He said "no." Then (he left.) So', ['he said " no . "', "then ( he left . )", "so"]),
        ("Mr. Smith, J. R. Ewing and Dr. No. The end.", ["mr . smith , j . r . ewing and dr . no .", "the end ."]),
        ("They can't. Better than I. He was.", ["they can't .", "better than i .", "he was ."]),
        ("It is 3.5 of 10,000 stars... Well.", ["it is 3.5 of 10,000 stars ...", "well ."]),
        ("Wait...what?!", ["wait ... what ? !"]),
        ("Don\u2019t <i>ever</i> say \u201cwell-made\u201d &amp; more", ['don\'t ever say " well-made " & more']),
        ('already cut : it\'s fine , " mr . smith " .', ['already cut : it\'s fine , " mr . smith " .']),
        ("caf\u00e9 cafe\u0301 zero\u200bwidth", ["caf\u00e9 caf\u00e9 zerowidth"]),
        ("5 < 6 > 4", ["5 < 6 > 4"]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_end_at_punctuation_and_paragraphs(text, sentences):
    assert cut(text) == sentences


def test_sentences_end_with_the_line_if_asked_for():
    assert cut("mr. a. b\n\n  one two . three \n", "lines") == ["mr . a . b", "one two . three"]


def test_an_unknown_word_of_the_corpus_stays_one():
    assert cut("the <unk> said N", "lines") == ["the <unk> said n"]


def test_a_line_of_signs_has_no_words():
    assert split_words("* * * !") == []
