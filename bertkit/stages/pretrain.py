"""`bertkit pretrain`: a corpus, a tokenizer and a recipe -> a pretrained checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import (
    ConfigError,
    RecipeParser,
    choose,
    overrule,
    refuse_recipes_of_another,
    spell_out_switches,
    value_of,
)
from bertkit.objectives import OBJECTIVES
from bertkit.stages import model_section
from bertkit.stages.finetuning.task_model import refuse_foreign_tokenizer
from bertkit.stages.pretrained_embeddings import StartingEmbeddings
from bertkit.training.arguments import LENGTHS, TrainingArguments

if TYPE_CHECKING:
    from accelerate import PartialState
    from jsonargparse import Namespace
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from bertkit.data.health import Finding
    from bertkit.data.token_store import TokenStore
    from bertkit.objectives.batches import ObjectiveBatches
    from bertkit.objectives.objective import Objective


def build_parser(arguments: Sequence[str]) -> RecipeParser:
    """Build the parser of a pretraining recipe; which objective it has decides which settings there are."""
    name = value_of("objective.name", arguments, "masked")
    objective = choose("objective", name, OBJECTIVES)
    refuse_recipes_of_another(arguments, "objective.name", name, verb="pretrain")
    parser = RecipeParser(
        "pretrain", description="Pretrain a model on a corpus.", free=["model"], elsewhere=_settings_of_objectives()
    )
    parser.add_argument("--output_dir", type=str, required=True, help="Folder of the run: checkpoints and log.")
    start_from = value_of("model.from", arguments, "null")
    goes_on = start_from != "null"  # from a checkpoint, which knows its family and its tokenizer
    parser.add_argument(
        "--tokenizer",
        type=str,
        required=not goes_on,
        default=start_from if goes_on else None,
        help="Folder or Hub name of the tokenizer; default: that of `model.from`.",
    )
    parser.add_class_arguments(objective.data_class, "data", help="The corpus")
    parser.add_class_arguments(objective.arguments_class, "objective", help="What the model learns to predict")
    families = "; ".join(f"{', '.join(other.families)} ({name})" for name, other in OBJECTIVES.items())
    help_of_model = f"{model_section.HELP} Families, and the objectives that train them: {families}."
    parser.add_argument(
        "--model", type=dict[str, Any], default={} if goes_on else {"family": "bert"}, help=help_of_model
    )
    parser.add_class_arguments(TrainingArguments, "training", help="How it is trained")
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar, no lines but warnings and errors.")
    return parser


def _settings_of_objectives() -> dict[str, str]:
    """Return for every setting of an objective, and of what it reads, the objectives that have it."""
    having: dict[str, list[str]] = {}
    for name, objective in OBJECTIVES.items():
        for section, settings in (("objective", objective.arguments_class), ("data", objective.data_class)):
            for field in fields(settings):
                having.setdefault(f"{section}.{field.name}", []).append(name)
    return {key: f"objective.name {' or '.join(names)}" for key, names in having.items()}


def main(arguments: Sequence[str]) -> None:
    """Pretrain as the command line says.

    Raises:
        ValueError: whatever is wrong with the recipe, the corpus or the tokenizer, as one line before training starts.
    """
    arguments = spell_out_switches(arguments, ["model.help"])
    if value_of("model.help", arguments, "false") == "true":
        model_section.print_settings({"family": value_of("model.family", arguments, "bert")})
        return
    arguments = overrule(arguments, LENGTHS, model_section.SIZES)
    pretrain(*build_parser(arguments).read(arguments))


@dataclass
class Prepared:
    """Everything a pretraining consists of before its first step."""

    tokenizer: "PreTrainedTokenizerFast"
    objective: "Objective[Any]"
    train_store: "TokenStore"
    eval_store: "TokenStore"
    train_batches: "ObjectiveBatches[Any]"
    eval_batches: "ObjectiveBatches[Any]"
    model: "PreTrainedModel"


def prepare(
    recipe: "Namespace",
    processes: "PartialState",
    checkpoint: Path | None,
    *,
    say: "Callable[[Sequence[Finding]], None]",
    quiet: bool,
    text_first: bool = False,
) -> Prepared:
    """Walk from the text to the first batch, and build the model or load that of a checkpoint to go on from.

    What the recipe says of the model is looked at before the text, whose tokenizing may take hours.

    Args:
        recipe: as `build_parser` reads it.
        processes: of which the first tokenizes while the others wait.
        checkpoint: where the run goes on from, if it does.
        say: told what the cheap checks find in the text, before a model is built.
        quiet: no progress bar.
        text_first: look at the text before the model, to tell of it even where the model cannot be.

    Raises:
        ValueError: whatever is wrong with the recipe, the corpus or the tokenizer.
    """
    _refuse_family_of_another_objective(family_trained(recipe.model, checkpoint), recipe.objective.name)
    import bertkit.models  # noqa: F401 (a tokenizer beside a model of bertkit loads without a question once it is known)
    from bertkit.data.health import cheap_checks
    from bertkit.data.splits import build_stores
    from bertkit.objectives.batches import ObjectiveBatches
    from bertkit.tokenization import load_tokenizer

    tokenizer = load_tokenizer(recipe.tokenizer)
    objective = OBJECTIVES[recipe.objective.name](recipe.objective, tokenizer)
    decide_on_model = partial(_decide_on_model, recipe, checkpoint, tokenizer, objective, say=not quiet)
    build_model = None if text_first else decide_on_model()
    with processes.main_process_first():
        train_store, eval_store = build_stores(recipe.data, tokenizer, quiet=quiet)
    say([*cheap_checks(train_store), *objective.checks(train_store)])
    model = (build_model or decide_on_model())(train_store)
    training = recipe.training
    batch_size = training.batch_sizes(objective.tokens_per_example).final
    return Prepared(
        tokenizer=tokenizer,
        objective=objective,
        train_store=train_store,
        eval_store=eval_store,
        train_batches=ObjectiveBatches(
            objective, train_store, batch_size=batch_size, seed=training.seed, training=True
        ),
        eval_batches=ObjectiveBatches(objective, eval_store, batch_size=training.eval_batch_size, training=False),
        model=model,
    )


def family_trained(section: Mapping[str, Any], checkpoint: Path | None) -> str:
    """Return the family that the recipe's `model` section names, or that of the checkpoint that it starts from.

    Args:
        section: the section.
        checkpoint: where the run goes on from, if it does; then what it once started from is not looked at.
    """
    from bertkit.hub.checkpoints import checkpoint_folder, saved_family

    if section.get("from") is None:
        family: str = section.get("family", "bert")
        return family
    folder = checkpoint or checkpoint_folder(section["from"])
    return saved_family(folder) or section.get("family", "unknown")


def _decide_on_model(
    recipe: "Namespace",
    checkpoint: Path | None,
    tokenizer: "PreTrainedTokenizerFast",
    objective: "Objective[Any]",
    *,
    say: bool,
) -> "Callable[[TokenStore], PreTrainedModel]":
    """Look at what the recipe says of the model, and return what builds it once the training text is there."""
    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.models import load_model

    auto_class, wanted, positions = objective.auto_class, objective.config_settings, objective.max_positions
    embeddings, section = StartingEmbeddings.taken_from(recipe.model)
    if checkpoint is not None:
        remedy = "go on with that one, or start anew with another --output_dir"
        refuse_foreign_tokenizer(tokenizer, checkpoint, remedy=remedy)
        dropout = model_section.resumed_dropout(checkpoint, recipe.model, auto_class, wanted=wanted)

        def resume(store: "TokenStore") -> "PreTrainedModel":
            model = load_model(checkpoint, auto_class, **dropout)
            embeddings.go_on_in(model, checkpoint)
            return model

        return resume
    if recipe.model.get("from") is not None:
        start_from = checkpoint_folder(recipe.model["from"])
        refuse_foreign_tokenizer(tokenizer, start_from, remedy=f"give --tokenizer {start_from}")
        loaded = model_section.load_to_train_further(recipe.model, auto_class, max_positions=positions, wanted=wanted)
        return lambda store: loaded
    config = model_section.fresh_config(section, auto_class, tokenizer, max_positions=positions, wanted=wanted)

    def draw(store: "TokenStore") -> "PreTrainedModel":
        model = model_section.draw_model(config, auto_class, tokenizer, seed=recipe.training.seed)
        embeddings.put_into(model, tokenizer, token_counts=store.token_counts, say=say)
        return model

    return draw


def _refuse_family_of_another_objective(family: str, objective: str) -> None:
    """Make sure that a family learns from the objective's batches; a family that there is not is for others to name."""
    from bertkit.models import FAMILIES

    fitting = [name for name, other in OBJECTIVES.items() if family in other.families]
    known = FAMILIES.get(family)
    if known is not None and known.made_by != "pretrain":
        raise ConfigError(
            f"model.family {family} is made by `bertkit {known.made_by}`, and no objective trains it; choose from "
            f"{', '.join(name for name, other in FAMILIES.items() if other.made_by == 'pretrain')}"
        )
    if fitting and objective not in fitting:
        raise ConfigError(
            f"model.family {family} is trained by objective.name {' or '.join(fitting)}, not {objective}, which trains "
            f"{' and '.join(OBJECTIVES[objective].families)}"
        )


def pretrain(recipe: "Namespace", resolved: str) -> None:
    """Walk the road from text to a checkpoint.

    Args:
        recipe: as `build_parser` reads it.
        resolved: the same as YAML, to keep with the checkpoints.
    """
    from bertkit.training.processes import join_processes

    processes = join_processes()
    pretrain_among(processes, recipe, resolved)
    processes.destroy_process_group()


def pretrain_among(processes: "PartialState", recipe: "Namespace", resolved: str) -> None:
    """Walk the road, and leave the processes together for what follows; the arguments are those of `pretrain`."""
    from transformers.utils.logging import disable_progress_bar

    from bertkit.training.run_folder import run_folder

    disable_progress_bar()  # one for every file of a checkpoint, in the midst of ours
    resume_from = recipe.training.resume_from_checkpoint
    with run_folder(Path(recipe.output_dir), resume_from_checkpoint=resume_from, processes=processes) as checkpoint:
        _train(recipe, resolved, processes, checkpoint)


def _train(recipe: "Namespace", resolved: str, processes: "PartialState", checkpoint: Path | None) -> None:
    import yaml

    from bertkit.hub.cards.model_card import ModelCard, figures
    from bertkit.hub.publishing.training_push import TrainingPush
    from bertkit.models.layer_groups import layer_groups
    from bertkit.stages.checkpoint_extras import extras_writer
    from bertkit.stages.findings import report
    from bertkit.stages.recipe_changes import check_recipe
    from bertkit.training.trainer import Trainer

    quiet = recipe.quiet or not processes.is_main_process
    say = partial(report, is_main_process=processes.is_main_process)
    pushed = TrainingPush.of(recipe.training, is_main_process=processes.is_main_process, quiet=quiet)
    prepared = prepare(recipe, processes, checkpoint, say=say, quiet=quiet)
    say([] if checkpoint is None else check_recipe(checkpoint, resolved))
    len(prepared.eval_batches)  # lays them out: text that cannot be evaluated ends the run here, and not after hours
    card = ModelCard(
        auto_class=prepared.objective.auto_class,
        pipeline_tag=prepared.objective.pipeline_tag,
        language=recipe.data.language,
        parameters=prepared.model.num_parameters(),
        data={"train": figures(prepared.train_store), "eval": figures(prepared.eval_store)},
        floor=prepared.train_batches.loss_floor,
        floor_metric=f"eval_{prepared.objective.loss_terms[0]}",
        recipe=resolved,
    )

    trainer = Trainer(
        prepared.model,
        prepared.train_batches,
        recipe.training,
        output_dir=recipe.output_dir,
        eval_batches=prepared.eval_batches,
        write_extras=extras_writer(prepared.objective.checkpoint_tokenizer(prepared.tokenizer), card),
        after_save=pushed.checkpoint if pushed else None,
        layer_groups=layer_groups(prepared.model),
        resume_from=checkpoint,
        recipe=yaml.safe_load(resolved),
        quiet=quiet,
    )
    trainer.train()
    if pushed and trainer.stopped_by is None:
        pushed.end(trainer.output_dir)
    if not quiet and trainer.stopped_by is None:
        print(f"checkpoints: {recipe.output_dir}/last, and {recipe.output_dir}/best by eval_{trainer.best_by}")
