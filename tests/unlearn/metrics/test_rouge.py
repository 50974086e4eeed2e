import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from unlearn.metrics.rouge import rouge_l_f1, rouge_recall


def test_by_hand():
    """Reference of 4 words, 3 of them said, 2 of those in order ("mat the" is turned): recall 3/4 and 2/4; F1 of 2/4
    and 2/3."""
    got = rouge_recall(["mat cat sat"], ["the cat sat mat"])
    assert got["rouge1_recall"].tolist() == [0.75]
    assert got["rougeL_recall"].tolist() == [0.5]
    assert rouge_l_f1(["mat cat sat"], ["the cat sat mat"])[0] == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))


def test_recall_rewards_run_on_text_and_f1_does_not():
    short, long = "Ann paints boats", "Ann paints boats " + "and more " * 20
    recall = rouge_recall([short, long], [short, short])["rougeL_recall"]
    assert recall.tolist() == [1.0, 1.0]
    precise, running = rouge_l_f1([short, long], [short, short])
    assert precise == 1.0
    assert running < 0.2


def test_stemming():
    assert rouge_recall(["walked"], ["walking"])["rougeL_recall"].tolist() == [1.0]


@pytest.mark.parametrize("name", ["Ольга Иванова", "Ólafur Þórðarson", "Łukasz Żak", "山田太郎", "جميلة بوحيرد"])
def test_unicode_names_match_themselves(name):
    assert rouge_recall([name], [name])["rougeL_recall"].tolist() == [1.0]
    assert rouge_recall(["someone else"], [name])["rougeL_recall"].tolist() == [0.0]


def test_the_released_tokenizer_drops_letters():
    assert rouge_recall(["Ольга"], ["Ольга"], unicode=False)["rougeL_recall"].tolist() == [0.0]
    assert rouge_recall(["V squez"], ["Vásquez"], unicode=False)["rougeL_recall"].tolist() == [1.0]
    assert rouge_recall(["V squez"], ["Vásquez"])["rougeL_recall"].tolist() == [0.0]


def test_composed_and_decomposed_letters_are_the_same():
    assert rouge_recall(["Va\u0301squez"], ["V\u00e1squez"])["rougeL_recall"].tolist() == [1.0]


def test_empty_texts_score_zero():
    assert rouge_recall(["", "a"], ["a", ""])["rougeL_recall"].tolist() == [0.0, 0.0]
    assert rouge_recall([], [])["rougeL_recall"].shape == (0,)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.text(st.characters(max_codepoint=127), max_size=60), st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_text_scores_as_in_rouge_score(prediction, reference):
    expected = RougeScorer(["rouge1", "rougeL"], use_stemmer=True).score(target=reference, prediction=prediction)
    for unicode in (True, False):
        got = rouge_recall([prediction], [reference], unicode=unicode)
        assert got["rouge1_recall"][0] == expected["rouge1"].recall
        assert got["rougeL_recall"][0] == expected["rougeL"].recall


def test_the_unicode_path_agrees_on_ascii_words():
    """One accent sends the pair through the other tokenizer; every ASCII word must still be stemmed and split alike."""
    reference, prediction = "The painter's boats, walking 2nd é", "painters' boat: walked 2nd é"
    plain = rouge_recall([prediction.replace("é", "e")], [reference.replace("é", "e")])
    accented = rouge_recall([prediction], [reference])
    assert accented["rougeL_recall"] == pytest.approx(plain["rougeL_recall"])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 predictions for 1 references"):
        rouge_recall(["a", "b"], ["a"])
