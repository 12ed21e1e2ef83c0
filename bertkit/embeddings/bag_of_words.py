"""A text as the bag of its n-grams under a linear model: the cheap baseline of every task about texts.

scikit-learn counts, weighs and fits. What it does not do is to keep the result without pickle: here that is JSON (settings,
labels, n-grams) and safetensors (idf, coefficients, intercepts), from which the logits come out the same to the bit.

A pair has three groups of features. Each text has n-grams of its own, for a word may speak for a label in one and
against it in the other. The third is what the two share: for every length of n-gram, how many of the first text's are in
the second, how many of the second's in the first, and how many of all are in both, each as a share; that takes no
vocabulary, so words that training never saw count as well.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bertkit.config import ConfigError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer
    from transformers import PreTrainedTokenizerFast

ProblemType: TypeAlias = Literal["single_label_classification", "multi_label_classification", "regression"]
MODEL_TYPE = "bertkit-bow"
"""What `config.json` calls such a model."""


@dataclass(kw_only=True)
class BagOfWordsArguments:
    """Settings of a bag of words.

    Raises:
        ValueError: a value is outside what its field takes.
    """

    analyzer: Literal["word", "char_wb", "wordpiece"] = "word"
    """What n-grams are made of: words as `bertkit tokenizer` cuts them (one letter is a word, as are every punctuation mark,
    emoji and Chinese character), the characters within words, or the pieces of the tokenizer that `--tokenizer` names."""
    ngram_min: int = 1
    """Fewest words, characters or pieces of an n-gram."""
    ngram_max: int = 2
    """Most words, characters or pieces of an n-gram."""
    min_df: int = 1
    """Leave out n-grams that occur in fewer training texts."""
    max_features: int | None = None
    """Keep so many n-grams, the most frequent ones; all, if not given."""
    lowercase: bool = True
    """Read words and characters in lower case; pieces are as the tokenizer has them."""
    weighting: Literal["tfidf", "counts", "binary"] = "tfidf"
    """What an n-gram counts in a text: 1 + log(its number) times its inverse document frequency, each text scaled to length
    1; its number; or whether it occurs."""
    classifier: Literal["logistic_regression", "linear_svm", "naive_bayes", "ridge"] | None = None
    """The linear model: logistic regression, if not given, and for numbers ridge regression. A support vector machine has no
    probabilities: what it gives for them is made of its distances and not calibrated."""
    C: float | list[float] = field(default_factory=lambda: [0.1, 1.0, 10.0, 100.0])
    """Inverse strength of the regularisation, as scikit-learn's: ridge regression takes 1/(2C) for its alpha, naive Bayes 1/C.
    Of several, the one that does best on the evaluation part is taken, the smallest of equals."""
    class_weight: Literal["balanced"] | None = None
    """`balanced`: every label counts as much as every other, however rare it is."""

    def __post_init__(self) -> None:
        for name in ("ngram_min", "min_df", "max_features"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"model.{name} is {value}; it must be at least 1")
        if self.ngram_max < self.ngram_min:
            raise ConfigError(f"model.ngram_max is {self.ngram_max}, less than model.ngram_min, {self.ngram_min}")
        if not self.strengths or not all(strength > 0 for strength in self.strengths):
            raise ConfigError(f"model.C is {self.C}; give a number above 0, or several, as [0.1,1,10]")

    @property
    def strengths(self) -> list[float]:
        """The values of C to choose from, the smallest first."""
        return sorted(self.C) if isinstance(self.C, list) else [self.C]


class BagOfWords:
    """A linear model over the n-grams of a text, or of a pair of texts.

    Args:
        arguments: the settings.
        problem_type: one label for a text, any number of labels, or a number.
        label_names: the labels, by number; for `regression` the name of what is predicted.
        tokenizer: whose pieces the n-grams are made of; for the analyzer `wordpiece` only.

    Raises:
        ConfigError: settings that do not go together.
    """

    def __init__(
        self,
        arguments: BagOfWordsArguments,
        *,
        problem_type: ProblemType,
        label_names: Sequence[str],
        tokenizer: "PreTrainedTokenizerFast | None" = None,
    ) -> None:
        is_regression = problem_type == "regression"
        classifier = arguments.classifier or ("ridge" if is_regression else "logistic_regression")
        if (classifier == "ridge") != is_regression:
            remedy = "leave it out" if is_regression else "choose logistic_regression, linear_svm or naive_bayes"
            raise ConfigError(f"model.classifier {classifier} is not for {problem_type}; {remedy}")
        if is_regression and arguments.class_weight is not None:
            raise ConfigError("model.class_weight says nothing to regression; leave it out")
        if (arguments.analyzer == "wordpiece") != (tokenizer is not None):
            remedy = (
                "name one by --tokenizer" if tokenizer is None else "give --model.analyzer wordpiece, or leave it out"
            )
            having = "needs a" if tokenizer is None else "takes no"
            raise ConfigError(f"model.analyzer {arguments.analyzer} {having} tokenizer; {remedy}")
        self.arguments = replace(arguments, classifier=classifier)
        self.problem_type = problem_type
        self.label_names = list(label_names)
        self.tokenizer = tokenizer
        self._class_weights: dict[int, float] | None = None
        self.C: float | None = None  # the one that was chosen
        self.vocabularies: list[list[str]] = []  # of the first text and, of pairs, of the second
        self.idf: list[np.ndarray] = []  # (n-grams,) of each
        self.coefficients = np.zeros((0, 0))  # (labels, features)
        self.intercepts = np.zeros(0)  # (labels,)

    def fit(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None,
        targets: np.ndarray,
        *,
        evaluation: tuple[Sequence[str], Sequence[str] | None, np.ndarray] | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> "BagOfWords":
        """Learn n-grams and linear model.

        Args:
            texts: the training texts.
            text_pairs: the second text of each, of pairs.
            targets: (texts,) class numbers; (texts, labels) 0 or 1; or (texts,) numbers.
            evaluation: other texts, pairs and targets, on which C is chosen where the settings give several.
            class_weights: (labels,) what an error costs by class, of one label a text; None: as the settings say.

        Returns:
            Itself.

        Raises:
            ConfigError: there is nothing to choose C on, no n-gram is left, or a class has no text.
        """
        strengths = self.arguments.strengths
        self._class_weights = None if class_weights is None else dict(enumerate(class_weights))
        if len(strengths) > 1 and evaluation is None:
            raise ConfigError(
                f"model.C is {self.arguments.C}, and there is no evaluation part to choose on; give one number"
            )
        if self.problem_type == "single_label_classification":
            missing = set(range(len(self.label_names))) - set(np.unique(targets).tolist())
            if missing:
                raise ConfigError(
                    f"no training text has the label {self.label_names[min(missing)]!r}; a class needs one"
                )
        self._learn_ngrams([texts] if text_pairs is None else [texts, text_pairs])
        features = self.features(texts, text_pairs)
        fitted = {strength: self._fit_linear(features, targets, strength) for strength in strengths}
        self.C = strengths[0]
        if evaluation is not None and len(strengths) > 1:
            evaluated = self.features(*evaluation[:2])
            scores = [self._score(evaluated @ c.T + i, evaluation[2]) for c, i in fitted.values()]
            self.C = strengths[int(np.argmax(scores))]  # the first of equals
        self.coefficients, self.intercepts = fitted[self.C]
        return self

    def logits(self, texts: Sequence[str], text_pairs: Sequence[str] | None) -> np.ndarray:
        """Score texts.

        Args:
            texts: the texts.
            text_pairs: the second text of each, of pairs.

        Returns:
            (texts, labels) float64. Their softmax (one label a text) or sigmoid (several) are the probabilities, and of
            regression they are the numbers predicted. Of a support vector machine they are signed distances in
            units of the margin: their order is meant, their softmax a makeshift. Of two classes the first one's are 0.
        """
        return self.features(texts, text_pairs) @ self.coefficients.T + self.intercepts

    def features(self, texts: Sequence[str], text_pairs: Sequence[str] | None) -> "csr_matrix":
        """Return the features of texts: (texts, n-grams), for pairs (texts, n-grams of either + 3 for each length)."""
        from scipy.sparse import csr_matrix, hstack

        sides = [texts] if text_pairs is None else [texts, text_pairs]
        if len(sides) != len(self.vocabularies):
            given, learned = (
                ("a pair" if count == 2 else "single texts") for count in (len(sides), len(self.vocabularies))
            )
            raise ConfigError(f"the bag of words has learned from {learned}, and is given {given}")
        blocks = [
            self._weigh(self._vectorizer(vocabulary=vocabulary).transform(side), number)
            for number, (side, vocabulary) in enumerate(zip(sides, self.vocabularies, strict=True))
        ]
        if text_pairs is not None:
            blocks.append(csr_matrix(self._overlap(texts, text_pairs)))
        return hstack(blocks, format="csr")

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads: `config.json`, `ngrams.json`, `model.safetensors`, and the tokenizer's files.

        Args:
            folder: where to; made where it is missing.
        """
        from safetensors.numpy import save_file

        from bertkit.tokenization import save_tokenizer

        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "model_type": MODEL_TYPE,
            "problem_type": self.problem_type,
            "id2label": dict(enumerate(self.label_names)),
            "chosen_C": self.C,
            "settings": asdict(self.arguments),
        }
        _write_json(folder / "config.json", config)
        _write_json(folder / "ngrams.json", self.vocabularies)
        idf = {f"idf.{number}": of_side for number, of_side in enumerate(self.idf)}
        weights = {"coefficients": self.coefficients, "intercepts": self.intercepts, **idf}
        save_file(
            {name: np.ascontiguousarray(of_name) for name, of_name in weights.items()}, folder / "model.safetensors"
        )
        if self.tokenizer is not None:
            save_tokenizer(self.tokenizer, folder)

    @classmethod
    def load(cls, folder: Path) -> "BagOfWords":
        """Read what `save` wrote.

        Args:
            folder: where from.

        Raises:
            ConfigError: the folder holds something else, or a file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        from bertkit.tokenization import load_tokenizer

        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            vocabularies = json.loads((folder / "ngrams.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{folder} holds no whole bag of words ({reason}); copy or train it again") from error
        if config.get("model_type") != MODEL_TYPE:
            raise ConfigError(f"{folder} holds a model of type {config.get('model_type')!r} and no bag of words")
        arguments = BagOfWordsArguments(**config["settings"])
        bag = cls(
            arguments,
            problem_type=config["problem_type"],
            label_names=list(config["id2label"].values()),
            tokenizer=load_tokenizer(folder) if arguments.analyzer == "wordpiece" else None,
        )
        bag.C = config["chosen_C"]
        bag.vocabularies = vocabularies
        bag.coefficients, bag.intercepts = weights["coefficients"], weights["intercepts"]
        bag.idf = [weights[f"idf.{number}"] for number in range(len(vocabularies)) if f"idf.{number}" in weights]
        return bag

    def _vectorizer(
        self,
        *,
        vocabulary: Sequence[str] | None = None,
        ngram_range: tuple[int, int] | None = None,
    ) -> "CountVectorizer":
        from sklearn.feature_extraction.text import CountVectorizer

        arguments = self.arguments
        normalize, cut = self._reading()
        return CountVectorizer(
            analyzer="char_wb" if arguments.analyzer == "char_wb" else "word",
            preprocessor=normalize,
            tokenizer=None if arguments.analyzer == "char_wb" else cut,
            token_pattern=None,  # scikit-learn's drops words of one letter, which in Korean are many, and punctuation
            ngram_range=ngram_range or (arguments.ngram_min, arguments.ngram_max),
            min_df=arguments.min_df,
            max_features=arguments.max_features,
            binary=arguments.weighting == "binary",
            vocabulary=vocabulary,
            dtype=np.float64,
        )

    def _reading(self) -> tuple[Callable[[str], str], Callable[[str], list[str]]]:
        """Return how a text is normalised, and how it is cut."""
        from bertkit.tokenization import word_cutter

        tokenizer = self.tokenizer
        if tokenizer is None:
            return word_cutter(lowercase=self.arguments.lowercase)
        return str, lambda text: tokenizer(text, add_special_tokens=False, verbose=False).tokens()

    def _learn_ngrams(self, sides: Sequence[Sequence[str]]) -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        self.vocabularies, self.idf = [], []
        for texts in sides:
            vectorizer = self._vectorizer()
            try:
                counts = vectorizer.fit_transform(texts)
            except ValueError as error:  # the library's words for it name settings of its own
                least = self.arguments.min_df
                where = "the training texts have no n-gram" if least == 1 else f"no n-gram is in {least} training texts"
                raise ConfigError(f"{where}; lower model.min_df or model.ngram_min") from error
            self.vocabularies.append(vectorizer.get_feature_names_out().tolist())
            if self.arguments.weighting == "tfidf":
                self.idf.append(TfidfTransformer().fit(counts).idf_)

    def _weigh(self, counts: "csr_matrix", side: int) -> "csr_matrix":
        """Turn the n-gram counts of texts, the first ones of pairs or the second, into their weights."""
        from sklearn.preprocessing import normalize

        if self.arguments.weighting != "tfidf":
            return counts
        counts.data = (1 + np.log(counts.data)) * self.idf[side][counts.indices]
        return normalize(counts, copy=False)

    def _overlap(self, texts: Sequence[str], text_pairs: Sequence[str]) -> np.ndarray:
        """Return how much the texts of each pair share: (texts, 3 for each length of n-gram) from 0 to 1."""
        columns = []
        for length in range(self.arguments.ngram_min, self.arguments.ngram_max + 1):
            ngrams_of = self._vectorizer(ngram_range=(length, length)).build_analyzer()
            for first, second in zip(texts, text_pairs, strict=True):
                one, other = set(ngrams_of(first)), set(ngrams_of(second))
                shared = len(one & other)
                columns.append([shared / max(len(of), 1) for of in (one, other, one | other)])
        lengths = self.arguments.ngram_max - self.arguments.ngram_min + 1
        by_length = np.array(columns).reshape(lengths, len(texts), 3)
        return by_length.transpose(1, 0, 2).reshape(len(texts), 3 * lengths)  # (texts, lengths x shares)

    def _fit_linear(
        self, features: "csr_matrix", targets: np.ndarray, strength: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the coefficients, (labels, features), and intercepts, (labels,), of a linear model."""
        if self.problem_type == "multi_label_classification":
            fitted = [self._fit_one_label(features, column, strength) for column in targets.T]
            return np.concatenate([c for c, _ in fitted]), np.concatenate([i for _, i in fitted])
        coefficients, intercepts = self._fit_estimator(features, targets, strength)
        if self.problem_type == "single_label_classification" and len(coefficients) == 1:
            # Of two classes the library keeps the second one's distance from the first.
            return np.pad(coefficients, ((1, 0), (0, 0))), np.pad(intercepts, (1, 0))
        return coefficients, intercepts

    def _fit_one_label(
        self, features: "csr_matrix", holds: np.ndarray, strength: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the coefficients and the intercept by which one label of several holds or not."""
        if len(np.unique(holds)) < 2:  # nothing to tell apart: the odds, with half a text of either kind added
            odds = np.log((holds.sum() + 0.5) / (len(holds) - holds.sum() + 0.5))
            return np.zeros((1, features.shape[1])), np.array([odds])
        coefficients, intercepts = self._fit_estimator(features, holds, strength)
        if len(coefficients) == 2:  # naive Bayes has a likelihood of either
            return np.diff(coefficients, axis=0), np.diff(intercepts)
        return coefficients, intercepts

    def _fit_estimator(
        self, features: "csr_matrix", targets: np.ndarray, strength: float
    ) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.svm import LinearSVC
        from sklearn.utils.class_weight import compute_sample_weight

        classifier, class_weight = self.arguments.classifier, self._class_weights or self.arguments.class_weight
        if classifier == "naive_bayes":
            weights = None if class_weight is None else compute_sample_weight(class_weight, targets)
            bayes = MultinomialNB(alpha=1 / strength).fit(features, targets, sample_weight=weights)
            return bayes.feature_log_prob_, bayes.class_log_prior_
        if classifier == "ridge":
            ridge = Ridge(alpha=1 / (2 * strength)).fit(features, targets)
            return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
        if classifier == "linear_svm":
            linear = LinearSVC(C=strength, class_weight=class_weight, dual="auto", random_state=0, max_iter=10_000)
        else:
            linear = LogisticRegression(C=strength, class_weight=class_weight, max_iter=10_000)
        linear.fit(features, targets)
        return linear.coef_, linear.intercept_

    def _score(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return what C is chosen by: accuracy; F1 over all labels of all texts; or minus the mean squared error."""
        from sklearn.metrics import accuracy_score, f1_score, mean_squared_error

        if self.problem_type == "regression":
            return -float(mean_squared_error(targets.reshape(logits.shape), logits))
        if self.problem_type == "multi_label_classification":
            return float(f1_score(targets, logits > 0, average="micro", zero_division=0))
        return float(accuracy_score(targets, logits.argmax(-1)))


def load_bag_of_words(folder: Path) -> "BagOfWords | None":
    """Return the bag of words that a folder holds; None if it holds something else.

    Args:
        folder: a checkpoint folder.

    Raises:
        ConfigError: it holds a bag of words, and a file is damaged.
    """
    path = folder / "config.json"
    if not path.is_file() or f'"{MODEL_TYPE}"' not in path.read_text(encoding="utf-8"):
        return None
    return BagOfWords.load(folder)


def texts_and_pairs(examples: Sequence[Any]) -> tuple[list[str], list[str] | None]:
    """Return the texts of examples, and their second ones where they are pairs."""
    texts = [example.text for example in examples]
    return texts, None if examples[0].text_pair is None else [example.text_pair or "" for example in examples]


def _write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
