"""The table of consumers: what reads checkpoints of bertkit, what is claimed of it, and who is left out and why."""

from examples.consumers import exports, loading, pipelines, training
from examples.consumers.consumer import Consumer

_LABELS_TEXTS = "AutoModelForSequenceClassification"
_SPELLS = "elmo, characters"
_RECURRENT = "torch's compiler breaks the graph at recurrent layers and calls them as they are"
_NO_NATIVE = "transformers has no architecture that computes the same"

CONSUMERS: dict[str, Consumer] = {
    "pipeline fill-mask": Consumer(
        "the likeliest words of a mask, with their probabilities, are those of the model's scores",
        pipelines.fill_mask,
        needs=("AutoModelForMaskedLM",),
        lacking="has no masked language model",
    ),
    "pipeline text-generation": Consumer(
        "a padded batch goes on as `generate` goes on with each text alone",
        pipelines.text_generation,
        needs=("AutoModelForCausalLM",),
        lacking="has no causal language model",
    ),
    "pipeline feature-extraction": Consumer(
        "the vectors are the base model's last states",
        pipelines.feature_extraction,
        unfit=dict.fromkeys(
            ("rnn_seq2seq", "transformer"), "reads a source and a target, and the pipeline gives one text"
        ),
    ),
    "pipeline text-classification": Consumer(
        "all labels have the probabilities of the model's scores, in padded batches too",
        pipelines.text_classification,
        needs=(_LABELS_TEXTS,),
        lacking="has no head that labels texts",
    ),
    "pipeline token-classification": Consumer(
        "each token has the label of the highest score",
        pipelines.token_classification,
        needs=("AutoModelForTokenClassification",),
        lacking="has no head that labels tokens",
        unfit={_SPELLS: "the pipeline wants one id a token, and this tokenizer gives characters; `Predictor` tags it"},
    ),
    "question answering": Consumer(
        "`Predictor` answers with the likeliest stretch of the text, by the model's scores",
        pipelines.question_answering,
        needs=("AutoModelForQuestionAnswering",),
        lacking="has no head that answers questions",
        unfit={_SPELLS: "its tokenizer gives no places in the text, of which an answer is cut"},
    ),
    "translation": Consumer(
        "`Predictor` translates as `generate` does",
        pipelines.translation,
        needs=("AutoModelForSeq2SeqLM",),
        lacking="does not translate",
    ),
    "transformers' Trainer": Consumer(
        "two steps and two more from their checkpoint leave the weights of four, to the bit and with dropout; the evaluation "
        "is the model's own loss",
        training.trainer,
        says=("There were missing keys in the checkpoint model loaded",),
    ),
    "Trainer, accumulating": Consumer(
        "a step over four rows is the step over one row, four times accumulated",
        training.accumulation,
    ),
    "peft LoRA": Consumer(
        "a trained adapter says the same after saving and loading, and after merging and loading by the Auto class",
        training.lora,
        remarks={
            "rnn": "peft adapts no recurrent layers: the embeddings are adapted",
            "elmo": "peft adapts no recurrent layers: the embeddings are adapted",
            _SPELLS: "peft adapts no recurrent layers: the highway layers are adapted",
            "rnn_seq2seq": "peft adapts no recurrent layers: attention, bridge and readout are adapted",
            "static": "there are no layers: the embeddings are adapted",
        },
    ),
    "torch.compile": Consumer(
        "compiled, batches of two sizes give the same numbers",
        training.compiled,
        remarks={"rnn": _RECURRENT, "rnn_seq2seq": _RECURRENT},
    ),
    "half precision": Consumer(
        "with `dtype`, all heads have weights in bfloat16 or float16 and say nearly the same; saved so, they load so",
        loading.half_precision,
    ),
    "device_map": Consumer(
        'all heads say the same under "cpu", "auto", and with a part of the weights left on the disk',
        loading.device_map,
        says=("Some parameters are on the meta device because they were offloaded",),
    ),
    "sharded safetensors": Consumer(
        "all heads saved in several files load to the bit",
        loading.shards,
    ),
    "the Hub, with revision": Consumer(
        "by their names on a Hub on loopback, `main` and a revision load as what they are",
        loading.hub_revision,
    ),
    "native export": Consumer(
        "exported, it is a class of transformers' own, loads without a flag, and says the same",
        loading.native_export,
        unfit=dict.fromkeys(("rnn", "static", "elmo", "rnn_seq2seq"), _NO_NATIVE),
    ),
    "onnxruntime": Consumer(
        "exported with its own head, it says the same of what its tokenizer makes of texts, and nearly so in eight bits",
        exports.onnx,
        unfit=dict.fromkeys(("rnn_seq2seq", "transformer"), "writes token by token, in a loop that no graph holds"),
    ),
    "sentence-transformers": Consumer(
        "exported, `encode` gives the means of the last states",
        exports.sentence_transformers,
        unfit=dict.fromkeys(("rnn_seq2seq", "transformer"), "reads a source and a target, and has no vector of a text"),
    ),
    "without bertkit": Consumer(
        "in a process that cannot import bertkit all heads load with `trust_remote_code` and say the same, and a native "
        "export without it",
        loading.without_bertkit,
    ),
}
