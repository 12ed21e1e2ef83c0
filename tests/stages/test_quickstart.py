"""The texts that the quick start makes; that the whole of it runs is for `make quickstart` to show."""

from bertkit.stages.quickstart import word_order

SENTENCES = [f"The {animal} saw the old {thing} near a {place}." for animal in ("cat", "dog", "hen", "fox", "owl")
             for thing in ("box", "hat", "jar", "map") for place in ("barn", "lake", "road")]  # fmt: skip


def test_every_second_sentence_is_shuffled_between_its_first_and_last_word_and_the_others_are_as_they_were():
    examples = word_order(SENTENCES, 50)
    assert len({tuple(sorted(sentence.split())) for sentence, _ in examples}) == 50  # none is drawn twice
    assert [label for _, label in examples] == ["in order", "shuffled"] * 25
    originals = {tuple(sorted(sentence.split())): sentence for sentence in SENTENCES}
    for sentence, label in examples:
        original = originals[tuple(sorted(sentence.split()))]  # which holds the very words, so that they tell nothing
        assert (sentence == original) == (label == "in order")
        assert (sentence.split()[0], sentence.split()[-1]) == (original.split()[0], original.split()[-1])


def test_the_same_sentences_are_drawn_each_time_and_not_those_of_the_front_alone():
    assert word_order(SENTENCES, 20) == word_order(SENTENCES, 20)
    places = [SENTENCES.index(sentence) for sentence, label in word_order(SENTENCES, 20) if label == "in order"]
    assert places != sorted(places) and max(places) > len(SENTENCES) // 2


def test_no_shuffled_sentence_is_in_order_even_where_few_orders_differ():
    sentences = [f"{number} a b c." for number in range(40)]  # the drawn order is the old one every other time
    shuffled = [sentence for sentence, label in word_order(sentences, len(sentences)) if label == "shuffled"]
    assert shuffled and not set(shuffled) & set(sentences)
