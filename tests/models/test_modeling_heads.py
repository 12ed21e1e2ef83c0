"""Task heads of every family: an example's result is its own, whatever row it lies in and whatever lies beside it."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from bertkit.models import FAMILIES, build_config
from bertkit.models.modeling_pooling import POOLINGS

TASK_HEADS = [
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice",
]
FAMILIES_WITH_HEADS = [family for family, members in FAMILIES.items() if members.auto_classes.keys() >= {*TASK_HEADS}]
LENGTHS = (5, 1, 7, 4)  # of four examples, in packed rows two by two
PACKED = ([0, 1], [2, 3])
WIDTH = 12

every_family = pytest.mark.parametrize("family", FAMILIES_WITH_HEADS)
every_task_head = pytest.mark.parametrize("head", TASK_HEADS)
every_layout = pytest.mark.parametrize("layout", ["packed", "padded left", "padded right"])
close = {"atol": 1e-5, "rtol": 1e-5}


def can(family, pooling):
    """Only BERT has a pooler."""
    return family == "bert" or pooling != "cls"


@pytest.fixture
def examples():
    torch.manual_seed(0)
    return [torch.randint(1, 61, (length,)) for length in LENGTHS]


def lay_out(examples, layout):
    """Return inputs in rows of the layout, and the flat positions of every example in them."""
    rows = PACKED if layout == "packed" else [[number] for number in range(len(examples))]
    inputs = {
        "input_ids": torch.zeros(len(rows), WIDTH, dtype=torch.long),
        "attention_mask": torch.zeros(len(rows), WIDTH, dtype=torch.long),
        "position_ids": torch.ones(len(rows), WIDTH, dtype=torch.long),
    }
    places = []
    for row, numbers in enumerate(rows):
        start = WIDTH - len(examples[numbers[0]]) if layout == "padded left" else 0
        for number in numbers:
            own = slice(start, start + len(examples[number]))
            inputs["input_ids"][row, own] = examples[number]
            inputs["attention_mask"][row, own] = 1
            inputs["position_ids"][row, own] = torch.arange(len(examples[number]))
            places.append(row * WIDTH + torch.arange(own.start, own.stop))
            start = own.stop
    if layout == "packed":
        starts = torch.stack([own[0] for own in places])
        inputs["example_starts"] = torch.cat([starts, starts.new_zeros(2)])
    return inputs, places


def test_every_family_that_reads_one_text_has_all_four_heads():
    encoding = [family for family, members in FAMILIES.items() if not members.config_class().is_encoder_decoder]
    assert encoding == FAMILIES_WITH_HEADS
    for members in FAMILIES.values():
        assert len(members.auto_classes.keys() & {*TASK_HEADS}) in (0, len(TASK_HEADS))


@pytest.mark.parametrize(("family", "pooling"), [pair for pair in product(FAMILIES_WITH_HEADS, POOLINGS) if can(*pair)])
@every_layout
def test_an_example_is_classified_as_if_alone(small_model, examples, family, layout, pooling):
    model = small_model(family, TASK_HEADS[0], num_labels=3, pooling=pooling)
    inputs, _ = lay_out(examples, layout)
    logits = model(**inputs).logits
    alone = torch.cat([model(example[None]).logits for example in examples])
    torch.testing.assert_close(logits[: len(examples)], alone, **close)
    assert logits.isfinite().all()


@every_family
@every_layout
def test_a_token_is_classified_as_if_its_example_were_alone(small_model, examples, family, layout):
    model = small_model(family, "AutoModelForTokenClassification", num_labels=3)
    inputs, places = lay_out(examples, layout)
    labels = torch.full((inputs["input_ids"].numel(),), -100)
    labels[torch.cat(places)] = torch.arange(sum(LENGTHS)) % 4 - 1
    labels = labels.where(labels >= 0, -100).view(inputs["input_ids"].shape)
    outputs = model(**inputs, labels=labels)
    alone = torch.cat([model(example[None]).logits[0] for example in examples])
    torch.testing.assert_close(outputs.logits.flatten(0, 1)[torch.cat(places)], alone, **close)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(alone, labels.flatten()[torch.cat(places)]), **close)


@every_family
@every_layout
def test_an_answer_is_found_as_if_its_example_were_alone(small_model, examples, family, layout):
    model = small_model(family, "AutoModelForQuestionAnswering")
    inputs, places = lay_out(examples, layout)
    padding = [-100] * (len(inputs.get("example_starts", examples)) - len(examples))
    starts, ends = torch.tensor([4, 0, -100, 1, *padding]), torch.tensor([4, 0, -100, 2, *padding])
    outputs = model(**inputs, start_positions=starts, end_positions=ends)
    alone = [model(example[None]) for example in examples]
    terms = []
    for name, positions in (("start_logits", starts), ("end_logits", ends)):
        for own, position, single in zip(places, positions.tolist(), alone, strict=False):
            torch.testing.assert_close(outputs[name].flatten()[own], single[name][0], **close)
            if position >= 0:
                terms.append(-single[name][0].log_softmax(dim=0)[position])
    torch.testing.assert_close(outputs.loss, sum(terms) / 6, **close)


@every_family
@every_layout
def test_a_choice_is_made_as_if_each_were_alone(small_model, examples, family, layout):
    model = small_model(family, "AutoModelForMultipleChoice")
    inputs, _ = lay_out(examples, layout)
    choices = torch.tensor([[2, 0], [1, 3], [0, 0]])
    outputs = model(**inputs, choice_examples=choices, labels=torch.tensor([1, 0, -100]))
    alone = torch.stack([model(example[None, None]).logits[0, 0] for example in examples])
    torch.testing.assert_close(outputs.logits, alone[choices], **close)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(alone[choices[:2]], torch.tensor([1, 0])), **close)


@every_family
def test_choices_may_come_as_a_dimension_of_their_own(small_model, examples, family):
    model = small_model(family, "AutoModelForMultipleChoice")
    rows, _ = lay_out(examples, "padded right")
    labels = {"labels": torch.tensor([1, 0])}
    expected = model(**rows, choice_examples=torch.tensor([[0, 1], [2, 3]]), **labels, output_hidden_states=True)
    inputs = {name: values.unflatten(0, (2, 2)) for name, values in rows.items()}
    actual = model(**inputs, **labels, output_hidden_states=True)
    torch.testing.assert_close(actual.to_tuple(), expected.to_tuple())
    del inputs["input_ids"]
    embedded = model.get_input_embeddings()(rows["input_ids"]).unflatten(0, (2, 2))
    torch.testing.assert_close(model(**inputs, inputs_embeds=embedded).logits, expected.logits)
    with pytest.raises(
        ValueError, match=r"\(questions, choices, seq\) and was given \(4, 12\); .* give choice_examples"
    ):
        model(**rows)


@every_family
@every_task_head
def test_micro_batches_divided_by_the_count_of_the_step_add_up_to_its_mean(small_model, small_batch, family, head):
    model, batch = small_model(family, head), small_batch(head)
    labels = [name for name in batch if name in ("labels", "start_positions", "end_positions")]
    count = (batch[labels[0]] != -100).sum()
    parts = []
    for kept in (0, 1):  # every other label
        chosen = {name: batch[name].where((torch.arange(batch[name].shape[-1]) % 2) == kept, -100) for name in labels}
        parts.append(model(**{**batch, **chosen}, num_items_in_batch=count).loss)
    torch.testing.assert_close(sum(parts), model(**batch).loss)
    nothing = {name: torch.full_like(batch[name], -100) for name in labels}
    assert model(**{**batch, **nothing}).loss == 0


@every_family
@every_task_head
def test_one_batch_is_for_every_family(small_model, small_batch, family, head):
    # segments and starts are in every collated batch, though not every family reads them
    model, batch = small_model(family, head, num_labels=2, pooling="mean"), small_batch(head)
    more = {"token_type_ids": torch.ones(3, 10, dtype=torch.long), "position_ids": torch.arange(10).expand(3, 10)}
    loss = model(**batch, **more, example_starts=torch.tensor([0, 10, 20])).loss
    read = "type_vocab_size" in FAMILIES[family].config_class.__annotations__
    assert torch.equal(loss, model(**batch).loss) is not read


@every_family
@every_task_head
def test_dropout_before_a_head_is_the_tasks_or_the_models_own(small_model, family, head):
    assert small_model(family, head, hidden_dropout_prob=0.25).dropout.p == 0.25
    assert small_model(family, head, hidden_dropout_prob=0.25, classifier_dropout=0.0).dropout.p == 0


@every_family
def test_the_pooling_of_a_config_is_one_that_the_family_can_do(family):
    for setting, message in (
        ({"pooling": "sum"}, "unknown pooling 'sum'; choose from .*last, mean, max, concat$"),
        ({"classifier_dropout": 1.0}, "classifier_dropout is 1.0; it must be at least 0 and below 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build_config(family, **setting)
    if family != "bert":
        refusal = f"'cls', but models of type bertkit-{family} have no pooler .*; choose from last, mean, max, concat$"
        with pytest.raises(ValueError, match=refusal):
            build_config(family, pooling="cls")
    defaults = {"bert": "cls", "elmo": "mean", "gpt": "last", "rnn": "concat", "static": "mean"}
    assert build_config(family).pooling == defaults[family]


@pytest.mark.parametrize("head", ["AutoModelForSequenceClassification", "AutoModelForQuestionAnswering"])
def test_a_transformers_head_compiles_in_one_graph_when_the_collator_hands_the_starts_over(small_model, examples, head):
    torch._dynamo.reset()
    model = small_model("gpt", head, pooling="concat")
    inputs, _ = lay_out(examples, "packed")
    labels = torch.tensor([0, 0, 1, 1, -100, -100])
    names = ["labels"] if head == "AutoModelForSequenceClassification" else ["start_positions", "end_positions"]
    inputs |= dict.fromkeys(names, labels)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**inputs).to_tuple(), model(**inputs).to_tuple())


def test_only_heads_that_read_the_pooler_have_one(small_model):
    for head in TASK_HEADS:
        for pooling in ("cls", "mean"):
            reads = pooling == "cls" and head in (TASK_HEADS[0], TASK_HEADS[3])
            assert (small_model("bert", head, pooling=pooling).model.pooler is not None) is reads
