"""transformers' own common tests of a native model, over every family and what it is made of.

They are not in its wheel: TRANSFORMERS_TESTS names the folder `tests` of its repository at the version that is installed.
"""

import os
import unittest

import pytest
import torch

import tests
from bertkit.models import AUTO_CLASSES, FAMILIES, build_config
from bertkit.models.modeling_recurrent import states_of

if "TRANSFORMERS_TESTS" not in os.environ:
    pytest.skip(
        "TRANSFORMERS_TESTS is not set to the folder `tests` of a checkout of transformers", allow_module_level=True
    )

tests.__path__ = [*tests.__path__, os.environ["TRANSFORMERS_TESTS"]]  # its files import one another as `tests.…`
from tests.generation.test_utils import GenerationTesterMixin  # noqa: E402
from tests.test_modeling_common import ModelTesterMixin  # noqa: E402
from tests.test_training_mixin import TrainingTesterMixin  # noqa: E402

pytestmark = pytest.mark.slow
BATCH, SEQ, VOCAB = 3, 10, 61
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "embedding_size": 32,
    "cell_size": 40,
    "num_hidden_layers": 2,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "max_characters": 6,
    "character_embedding_size": 4,
    "character_filters": [[1, 4], [2, 8]],
    "hidden_dropout_prob": 0.1,
    "label_smoothing": 0.0,
    "decoder_start_token_id": 1,
}
# Every family in what it may be made of, by the name of its class of tests.
KINDS = {
    "Bert": ("bert", {}),
    "Elmo": ("elmo", {}),
    "ElmoOfCharacters": ("elmo", {"token_input": "characters"}),
    "Gpt": ("gpt", {}),
    "GptNormLast": ("gpt", {"norm_first": False}),
    "Rnn": ("rnn", {"cell_type": "rnn"}),
    "RnnGru": ("rnn", {"cell_type": "gru"}),
    "RnnLstm": ("rnn", {"cell_type": "lstm"}),
    "RnnPeepholeLstm": ("rnn", {"cell_type": "peephole_lstm"}),
    "RnnCoupledLstm": ("rnn", {"cell_type": "coupled_lstm"}),
    "RnnOfUnequalLayers": ("rnn", {"cell_type": "lstm", "hidden_sizes": [40, 32], "embedding_size": 24}),
    "Seq2Seq": ("rnn_seq2seq", {"cell_type": "rnn", "attention_type": "none"}),
    "Seq2SeqAdditive": ("rnn_seq2seq", {"cell_type": "gru", "attention_type": "additive"}),
    "Seq2SeqDot": ("rnn_seq2seq", {"cell_type": "lstm", "attention_type": "dot"}),
    "Seq2SeqGeneral": ("rnn_seq2seq", {"cell_type": "gru", "attention_type": "general"}),
    "Seq2SeqTwoTables": ("rnn_seq2seq", {"cell_type": "lstm", "share_encoder_decoder_embeddings": False}),
    "Seq2SeqWideEncoder": ("rnn_seq2seq", {"encoder_hidden_size": 48, "embedding_size": 24, "decoder_layers": 1}),
    "Static": ("static", {}),
    "Transformer": ("transformer", {}),
    "TransformerNormFirst": ("transformer", {"norm_first": True}),
    "TransformerTwoTables": ("transformer", {"share_encoder_decoder_embeddings": False}),
}
LANGUAGE_MODELS = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModelForPreTraining")
DICT_OUTPUTS = [
    "test_beam_sample_generate_dict_output",
    "test_beam_search_generate_dict_output",
    "test_beam_search_generate_dict_outputs_use_cache",
    "test_greedy_generate_dict_outputs",
    "test_greedy_generate_dict_outputs_use_cache",
    "test_sample_generate_dict_output",
]
# (why, kinds, tests)
DOES_NOT_FIT: list[tuple[str, list[str], list[str]]] = [
    (
        "it wants every layer and the embeddings as wide as hidden_size",
        ["RnnOfUnequalLayers", "Seq2SeqWideEncoder"],
        [*DICT_OUTPUTS, "test_hidden_states_output"],
    ),
    ("it wants the states of all layers of one width", ["RnnOfUnequalLayers"], ["test_past_key_values_format"]),
    (
        "it looks the target up in the source's table",
        ["Seq2SeqTwoTables", "TransformerTwoTables"],
        ["test_inputs_embeds_matches_input_ids"],
    ),
    (
        "the character encoder takes (questions, choices, seq) for (batch, seq, characters)",
        ["ElmoOfCharacters"],
        ["test_inputs_embeds"],
    ),
    (
        "it wants a table of tokens, where a model that reads characters has none",
        ["ElmoOfCharacters"],
        [
            "test_model_get_set_embeddings",
            "test_resize_embeddings_untied",
            "test_resize_embeddings_untied_no_reinit_on_post_init",
            "test_resize_tokens_embeddings",
        ],
    ),
]


class ModelTester:
    """What the mixins ask for a small model of a kind and its inputs."""

    is_training = True
    batch_size, seq_length, num_choices = BATCH, SEQ, 2

    def __init__(self, family, choices):
        self.family, self.choices = family, choices
        config = self.small_config()
        self.hidden_size = config.hidden_size
        self.num_hidden_layers = getattr(config, "num_hidden_layers", 0)
        self.num_attention_heads = getattr(config, "num_attention_heads", 0)

    def small_config(self, **settings):
        known = FAMILIES[self.family].config_class.__annotations__
        settings = {**SMALL, **self.choices, **settings}
        return build_config(self.family, **{name: value for name, value in settings.items() if name in known})

    def get_config(self):
        """The model that is to learn a batch by heart in 300 steps at a rate of 1e-3."""
        wide = {"hidden_size": 128, "hidden_sizes": None, "embedding_size": 128}
        return self.small_config(**wide, initializer_range=0.3, hidden_dropout_prob=0.0)

    def prepare_config_and_inputs_for_common(self):
        config = self.small_config()
        inputs = {
            "input_ids": torch.randint(2, VOCAB, (BATCH, SEQ)),
            "attention_mask": torch.ones(BATCH, SEQ, dtype=torch.long),
        }
        if config.is_encoder_decoder:
            inputs |= {f"decoder_{name}": values for name, values in inputs.items()}
        return config, inputs


class CommonTests:
    """The mixins, told what bertkit's heads take and what its recurrent state looks like."""

    test_can_init_all_missing_weights_before_2023 = True  # they look for a year at the top of the file

    def setUp(self):
        self.model_tester = ModelTester(self.family, self.choices)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class is FAMILIES[self.family].auto_classes.get("AutoModelForPreTraining"):
            inputs["labels"] = torch.zeros(BATCH, SEQ, dtype=torch.long)
            if self.family == "bert":
                inputs["next_sentence_label"] = torch.zeros(BATCH, dtype=torch.long)
        return inputs

    def _create_text_training_batch(self, batch_size, seq_length, vocab_size):
        batch = super()._create_text_training_batch(batch_size, seq_length, vocab_size)
        if self.is_encoder_decoder:
            # It is to generate the batch from the first token as source and start, and so is trained on no other source.
            tokens = batch["input_ids"]
            batch["decoder_input_ids"], batch["labels"] = tokens, tokens.roll(-1, dims=1)
            batch["labels"][:, -1] = -100
            batch["attention_mask"] = (torch.arange(seq_length) == 0).long().expand_as(tokens)
        return batch

    def _get_trainable_model_class(self):
        return self.language_model

    def _get_attention_shape(self, batch_size, seq_length, config):
        if self.has_attentions:
            return super()._get_attention_shape(batch_size, seq_length, config)
        cell_size = config.hidden_size if states_of(config.cell_type) == 2 else 0
        return (batch_size, config.hidden_size), (batch_size, cell_size)


@pytest.fixture(scope="module", autouse=True)
def named_like_native_classes():
    """Let the mixins, which go by the names of classes, know which heads bertkit's are."""
    with pytest.MonkeyPatch.context() as patch:
        for family in FAMILIES.values():
            for name, model_class in family.auto_classes.items():
                names = AUTO_CLASSES[name]._model_mapping._model_mapping
                patch.setitem(names, family.config_class.model_type, model_class.__name__)
        yield


def build_tests(kind):
    """Make the class of tests of a kind; what does not fit it is expected to fail, and an error where it passes."""
    family, choices = KINDS[kind]
    heads = FAMILIES[family].auto_classes
    language_model = next((heads[name] for name in LANGUAGE_MODELS if name in heads), None)
    mixins = [CommonTests, ModelTesterMixin]
    if language_model is not None:
        mixins.append(TrainingTesterMixin)
    if any(head.can_generate() for head in heads.values()):
        mixins.append(GenerationTesterMixin)
    attributes = {
        "__module__": __name__,
        "family": family,
        "choices": choices,
        "language_model": language_model,
        "all_model_classes": tuple(heads.values()),
        "is_encoder_decoder": FAMILIES[family].config_class().is_encoder_decoder,
        "has_attentions": "num_attention_heads" in FAMILIES[family].config_class.__annotations__,
        # A recurrent model given a mask makes sequences whose number depends on it, which no graph holds.
        "test_torch_exportable": not any(head._is_stateful for head in heads.values()),
    }
    made = type(f"Test{kind}", (*mixins, unittest.TestCase), attributes)
    for reason, kinds, names in DOES_NOT_FIT:
        for name in names if kind in kinds else ():
            strict = not name.startswith(
                "test_resize_embeddings_untied"
            )  # heads one by one, of which some have no table to ask for
            setattr(made, name, pytest.mark.xfail(reason=reason, strict=strict)(getattr(made, name)))
    return made


globals().update({f"Test{kind}": build_tests(kind) for kind in KINDS})
