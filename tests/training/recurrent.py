"""A recurrent language model in its plainest form, and a script that trains it with its state carried from step to step."""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from bertkit.data.arguments import DataArguments
from bertkit.data.splits import build_stores
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.causal import CausalArguments, CausalObjective
from bertkit.training.arguments import TrainingArguments
from bertkit.training.checkpointing import find_checkpoint
from bertkit.training.processes import join_processes
from bertkit.training.trainer import Trainer


class PlainState:
    """What stands in for a recurrent model's cache."""

    def __init__(self, hidden):
        self.hidden = hidden  # (batch, hidden)

    def tensors(self):
        return [self.hidden]

    @classmethod
    def from_tensors(cls, tensors):
        return cls(*tensors)


class PlainConfig(PreTrainedConfig):
    model_type = "plain-recurrent"

    def __init__(self, vocab_size=300, hidden_size=16, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size, self.hidden_size, self.dropout = vocab_size, hidden_size, dropout


class PlainRecurrent(PreTrainedModel):
    """Token by token: a position 0 begins anew, padding changes nothing."""

    config_class = PlainConfig
    state_class = PlainState

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.cell = nn.GRUCell(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_ids,
        attention_mask,
        position_ids,
        shift_labels,
        num_items_in_batch,
        past_key_values=None,
        use_cache=None,
    ):
        batch, seq = input_ids.shape
        hidden = torch.zeros(batch, self.config.hidden_size) if past_key_values is None else past_key_values.hidden
        states = []
        for column in range(seq):
            hidden = hidden.masked_fill((position_ids[:, column] == 0)[:, None], 0.0)
            new = self.cell(self.embeddings(input_ids[:, column]), hidden)
            hidden = torch.where(attention_mask[:, column, None] == 1, new, hidden)
            states.append(hidden)
        logits = self.lm_head(self.dropout(torch.stack(states, dim=1)))  # (batch, seq, vocab)
        loss = F.cross_entropy(logits.flatten(0, 1), shift_labels.flatten(), reduction="sum") / num_items_in_batch
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=PlainState(hidden))


def train(output_dir, corpus, tokenizer, kill_at=None, dropout=0.0, block_size=16, **settings):
    """Train the model as a run of pretraining would; `kill_at` names a step in whose first forward pass the run dies."""
    processes = join_processes()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    data = DataArguments(train=str(corpus), eval_fraction=0.2)
    with processes.main_process_first():
        train_store, eval_store = build_stores(data, tokenizer, quiet=True)
    objective = CausalObjective(CausalArguments(block_size=block_size, carry_state=True), tokenizer)
    arguments = TrainingArguments(**{"train_batch_size": 7, "max_steps": 12, "eval_batch_size": 5} | settings)
    checkpoint = find_checkpoint(Path(output_dir), arguments.resume_from_checkpoint)
    torch.manual_seed(0)
    if checkpoint is None:
        model = PlainRecurrent(PlainConfig(vocab_size=len(tokenizer), dropout=dropout)).train()
    else:
        model = PlainRecurrent.from_pretrained(checkpoint)

    class Dying(Trainer):
        def training_step(self, micro_batches, counts):
            if self.state.global_step == kill_at:
                raise SystemExit(9)
            super().training_step(micro_batches, counts)

    trainer = Dying(
        model,
        ObjectiveBatches(objective, train_store, batch_size=arguments.train_batch_size, training=True),
        arguments,
        output_dir=output_dir,
        eval_batches=ObjectiveBatches(objective, eval_store, batch_size=arguments.eval_batch_size, training=False),
        resume_from=checkpoint,
        quiet=True,
    )
    trainer.train()
    processes.destroy_process_group()
    return trainer


if __name__ == "__main__":
    train(**json.loads(sys.argv[1]))
