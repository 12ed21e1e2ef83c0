import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.errors import DataError
from bertkit.models import build_config, build_model
from bertkit.models.modeling_losses import cross_entropy
from bertkit.stages.finetune import build_parser
from bertkit.tasks.class_weights import class_weights, refuse_unknown_weights


@given(counts=st.lists(st.integers(1, 1000), min_size=2, max_size=6))
def test_balanced_weights_are_one_in_the_mean_and_make_every_class_weigh_alike(counts):
    names = [str(number) for number in range(len(counts))]
    weights = class_weights("balanced", names, dict(zip(names, counts, strict=True)))
    shares = [weight * count for weight, count in zip(weights, counts, strict=True)]
    assert sum(shares) / sum(counts) == pytest.approx(1, abs=1e-2)
    assert max(shares) == pytest.approx(min(shares), rel=0.2, abs=0.1)  # weights have four decimals


def test_weights_that_are_given_keep_their_ratio():
    first, second = class_weights({"a": 1.0, "b": 4.0}, ["a", "b"], {"a": 30, "b": 10})
    assert second / first == pytest.approx(4, rel=1e-3)
    assert (30 * first + 10 * second) / 40 == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("names", [["0", "1"], ["false", "true"]])
def test_labels_that_yaml_takes_for_something_else_have_their_weights(names):
    options = ["--data.train", "x", "--output_dir", "x", "--task.class_weights", f"{{{names[0]}: 1, {names[1]}: 4}}"]
    weights = build_parser(options).read(options)[0].task.class_weights
    refuse_unknown_weights(weights, names)
    first, second = class_weights(weights, names, dict.fromkeys(names, 10))
    assert second / first == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({0: 1.0, 1: 4.0}, "'0' is no label of the training data"),
        ({"a": 1.0}, "'b' has no weight; give one for each of a, b"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "'c' is no label of the training data"),
        ({"a": -1.0, "b": 1.0}, "give numbers of 0 and more"),
    ],
)
def test_weights_for_other_labels_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        refuse_unknown_weights(weights, ["a", "b"])


def test_the_weighted_loss_is_torchs_summed_and_divided_by_the_number_of_labels():
    torch.manual_seed(0)
    logits, labels = torch.randn(9, 3), torch.tensor([0, 1, 2, 2, 2, -100, 1, 0, 2])
    weights = [0.5, 1.0, 2.0]
    expected = F.cross_entropy(logits, labels, torch.tensor(weights), ignore_index=-100, reduction="sum") / 8
    torch.testing.assert_close(cross_entropy(logits, labels, class_weights=weights), expected)


@pytest.mark.parametrize("head", ["AutoModelForSequenceClassification", "AutoModelForTokenClassification"])
def test_heads_read_the_weights_from_the_config_and_keep_them_in_it(head, tmp_path):
    torch.manual_seed(0)
    config = build_config("bert", "tiny", vocab_size=50, num_labels=2, class_weights=[0.5, 1.5])
    model = build_model(config, head).eval()
    input_ids = torch.randint(5, 50, (2, 6))
    labels = torch.randint(0, 2, (2,) if "Sequence" in head else (2, 6))
    outputs = model(input_ids, labels=labels)
    logits = outputs.logits.flatten(0, -2)
    expected = F.cross_entropy(logits, labels.flatten(), torch.tensor([0.5, 1.5]), reduction="sum") / labels.numel()
    torch.testing.assert_close(outputs.loss, expected)
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path).config.class_weights == [0.5, 1.5]
