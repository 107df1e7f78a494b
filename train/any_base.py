"""Supervised training of any causal language model in a Hugging Face folder: all weights, or a LoRA adapter.

The trainer is transformers' own, not TRL's. What TRL's SFTTrainer adds to it are chat templates, which are not what
our runtime shows a model, and data sets that it tokenizes itself; rows come as token ids here (supervised.py), and the
rest of TRL's trainer is transformers'.

A run is a folder:

    run.json        what is trained on what; a run that is resumed must ask for the same
    log.jsonl       step, loss, learning rate, and the loss on the dev data
    checkpoints/    the last two; one counts once it holds the file `complete`, which is written last
    adapter/        with LoRA: the adapter as PEFT has it
    model/          the model as transformers has it, in the type of the base; with LoRA the merged one
    result.json     last of all

The order of the lines is drawn from the seed alone, and a step's lines are the same however many processes share them:
killed or not, on one process or several, a run ends with the same model, to within rounding.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler

from toolace_edge import formats
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import InputError, MissingDependency, ModelError

from .recipes import Lora, Training, TuneRecipe
from .run_files import begin_run, check_same_run, digest, digests, read_json, replace_text
from .supervised import Lines, Row, read_lines

_IGNORED = -100  # the label of what is not learned
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
_COMPLETE = "complete"


def tune(
    recipe: TuneRecipe, *, base: Path, data: Path, out: Path,
    dev: Path | None = None, drafts: Path | None = None, only: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train in the folder `out`, or go on there; what result.json holds. Nothing is done again in a finished run."""
    n_ctx = _check_base(base)
    facts = _facts(recipe, base, data, dev, drafts, only)
    check_same_run(out, facts)
    if (out / "result.json").exists():
        return read_json(out / "result.json")
    fmt, length = formats.get(recipe.rendering.format), min(recipe.rendering.length, n_ctx)
    vocabulary = _vocabulary(base)
    lines = read_lines(data, vocabulary, fmt, length, drafts=drafts, only=only)
    dev_rows = None if dev is None else read_lines(dev, vocabulary, fmt, length).rows
    arguments = _arguments(recipe.training, out, len(lines.rows), dev is not None)
    if arguments.process_index == 0:
        _say(f"{len(lines.rows)} rows ({lines.drafts} refinements), {lines.too_long} too long; "
             f"{arguments.max_steps} steps on {arguments.world_size} x {arguments.device}")  # fmt: skip
    transformers.set_seed(recipe.training.seed)
    model = _model(base, recipe)
    trainer = _Trainer(
        model, arguments, data_collator=_collate, train_dataset=_Rows(lines.rows, _order(lines.rows, recipe.training)),
        eval_dataset=None if dev_rows is None else _Rows(dev_rows, _by_length(dev_rows, range(len(dev_rows)))),
    )  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(_Keeper(out, trainer.accelerator.wait_for_everyone))
    if arguments.process_index == 0:
        begin_run(out, facts)
    warnings.filterwarnings("ignore", "mtime may not be reliable")  # the steps in the names are
    trainer.train(resume_from_checkpoint=_last_checkpoint(out / "checkpoints", arguments.process_index == 0))
    if arguments.process_index == 0:
        _write_result(trainer, recipe, base, out, lines)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return read_json(out / "result.json")


class _Rows(Dataset[Row]):
    """Rows in an order that is fixed beforehand."""

    def __init__(self, rows: Sequence[Row], order: Sequence[int]) -> None:
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, i: int) -> Row:
        return self._rows[self._order[i]]


class _Trainer(transformers.Trainer):
    """The rows come in their order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(rows)


class _Keeper(transformers.TrainerCallback):
    """Has the last step logged and evaluated, writes the log, and marks a checkpoint that every process has written."""

    def __init__(self, out: Path, wait: Callable[[], None]) -> None:
        self._out, self._wait = out, wait

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:  # a short run has no other line of the log
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero:
            entries = [entry for entry in map(_log_entry, state.log_history) if entry]
            replace_text(self._out / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
            if logs and (entry := _log_entry({**logs, "step": state.global_step})):
                _say(json.dumps(entry))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._wait()
        if state.is_world_process_zero:
            (self._out / "checkpoints" / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def _log_entry(logs: Mapping[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock."""
    kept = ("step", "loss", "grad_norm", "learning_rate", "eval_loss")
    entry = {key: logs[key] for key in kept if key in logs}
    return entry if len(entry) > 1 else {}


def _order(rows: Sequence[Row], training: Training) -> list[int]:
    """Which row comes when: every row once before any comes again; `batch` of them a step, the short ones first, so
    that those which are computed together need little padding.
    """
    wanted, rng = _steps(training, len(rows)) * training.batch, random.Random(training.seed)
    drawn: list[int] = []
    while len(drawn) < wanted:
        drawn += rng.sample(range(len(rows)), len(rows))
    steps = (drawn[start : start + training.batch] for start in range(0, wanted, training.batch))
    return [i for step in steps for i in _by_length(rows, step)]


def _by_length(rows: Sequence[Row], which: Iterable[int]) -> list[int]:
    return sorted(which, key=lambda i: len(rows[i].ids))


def _steps(training: Training, rows: int) -> int:
    return training.steps or max(1, round(training.epochs * rows / training.batch))


def _arguments(training: Training, out: Path, rows: int, has_dev: bool) -> Any:
    """TrainingArguments. Making them joins the other processes, where there are any."""
    steps = _steps(training, rows)
    arguments = transformers.TrainingArguments(
        output_dir=str(out / "checkpoints"), max_steps=steps,
        per_device_train_batch_size=training.micro_batch, per_device_eval_batch_size=training.micro_batch,
        learning_rate=training.learning_rate, lr_scheduler_type=training.schedule,
        warmup_steps=round(training.warmup * steps), weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm, seed=training.seed, bf16=training.precision == "bfloat16",
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False}, average_tokens_across_devices=True,
        logging_steps=training.log_every, logging_nan_inf_filter=False, save_steps=training.save_every,
        save_total_limit=2, eval_strategy="steps" if has_dev else "no", eval_steps=training.save_every,
        prediction_loss_only=True, remove_unused_columns=False, report_to=[], disable_tqdm=True,
        ddp_find_unused_parameters=False, use_cpu=not torch.accelerator.is_available(),
        optim="adamw_torch", log_level="error",
    )  # fmt: skip
    share = training.micro_batch * arguments.world_size * max(arguments.n_gpu, 1)
    if training.batch % share:
        raise InputError(
            f"training.batch of {training.batch} cannot be shared by {arguments.world_size} processes that take "
            f"training.micro_batch of {training.micro_batch} lines at a time.",
            hint=f"Make training.batch a multiple of {share}.",
        )
    arguments.gradient_accumulation_steps = training.batch // share
    return arguments


def _collate(rows: Sequence[Row]) -> dict[str, Tensor]:
    """int64 [rows, longest]; padding stands on the right and is neither seen nor learned."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, _IGNORED)
    for i, row in enumerate(rows):
        end = len(row.ids)
        ids[i, :end] = torch.tensor(row.ids)
        mask[i, :end] = 1
        labels[i, end - row.learned : end] = ids[i, end - row.learned : end]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


# --- the model ---------------------------------------------------------------------------------------------------


def _model(base: Path, recipe: TuneRecipe) -> Any:
    """What is learned is float32; weights that only serve an adapter are in the type that is computed in."""
    frozen_dtype = torch.bfloat16 if recipe.training.precision == "bfloat16" else torch.float32
    model = _load(base, torch.float32 if recipe.lora is None else frozen_dtype)
    model.config.use_cache = False
    if recipe.lora is not None:
        if recipe.training.gradient_checkpointing:
            model.enable_input_require_grads()
        model = _with_adapter(model, recipe.lora)
    return model


def _load(base: Path, dtype: torch.dtype) -> Any:
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{base} cannot be loaded by transformers: {error}.") from error


def _with_adapter(model: Any, lora: Lora) -> Any:
    peft = _peft()
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
        target_modules=lora.targets, bias="none",
    )  # fmt: skip
    try:
        model = peft.get_peft_model(model, settings)
    except ValueError as error:
        raise InputError(f"lora.targets is {lora.targets!r}, which does not suit the base: {error}") from error
    found = model.peft_config["default"]
    if isinstance(found.target_modules, set):  # which would be written in another order each time
        found.target_modules = sorted(found.target_modules)
    return model


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingDependency("peft", "train-hf") from error
    return peft


def _check_base(base: Path) -> int:
    """The base's context in tokens. ModelError where the folder is none that can be trained, or would be misread."""
    if not (base / "tokenizer.json").is_file():
        raise ModelError(f"{base} has no tokenizer.json, by which the runtime reads and writes.")
    try:
        config = json.loads((base / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{base} is no Hugging Face folder: its config.json cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise ModelError(f"{base} is no Hugging Face folder: its config.json is no object.")
    if "rope_parameters" in config and "rope_theta" not in config:
        raise ModelError(
            f"{base} was saved by transformers 5, whose rotary settings transformers {transformers.__version__} does "
            "not read: it would be trained as another model.",
            hint="Write `rope_theta` and `rope_scaling` into its config.json, as `rope_parameters` has them.",
        )
    n_ctx = config.get("max_position_embeddings")
    return n_ctx if isinstance(n_ctx, int) else sys.maxsize


def _vocabulary(base: Path) -> Vocabulary:
    return Vocabulary((base / "tokenizer.json").read_text("utf-8"), file=str(base / "tokenizer.json"))


# --- files ---------------------------------------------------------------------------------------------------------


def _last_checkpoint(folder: Path, tidy: bool) -> str | None:
    """The newest complete one; to be `tidy`, which one process should, is to remove what a kill left unfinished."""
    found = {int(place.name.rpartition("-")[2]): place for place in folder.glob("checkpoint-*")}
    whole = [step for step, place in found.items() if (place / _COMPLETE).exists()]
    if tidy:
        for step in found.keys() - set(whole):
            shutil.rmtree(found[step])
    return str(found[max(whole)]) if whole else None


def _write_result(trainer: Any, recipe: TuneRecipe, base: Path, out: Path, lines: Lines) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    result: dict[str, Any] = {
        "steps": trainer.state.global_step, "rows": len(lines.rows), "refinements": lines.drafts,
        "too_long": lines.too_long, "loss": losses[-1] if losses else None,
    }  # fmt: skip
    model = trainer.accelerator.unwrap_model(trainer.model)
    stored = transformers.AutoConfig.from_pretrained(base, local_files_only=True).dtype or torch.float32
    if recipe.lora is not None:
        _placed(out / "adapter", base, lambda folder: model.save_pretrained(folder))
        result["adapter"] = "adapter"
        if recipe.lora.merge:
            whole = _peft().PeftModel.from_pretrained(_load(base, torch.float32), out / "adapter")
            model = whole.merge_and_unload()
    if recipe.lora is None or recipe.lora.merge:
        model.to(stored)
        model.config.use_cache = True
        _placed(out / "model", base, lambda folder: model.save_pretrained(folder))
        result["model"] = "model"
    replace_text(out / "result.json", json.dumps(result) + "\n")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _placed(target: Path, base: Path, save: Callable[[Path], None]) -> None:
    """`target` once `save` has written all of it, with the base's tokenizer."""
    part = target.with_name(f".{target.name}.part")
    for left in (part, target):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir()
    save(part)
    for name in _TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copy(base / name, part / name)
    part.replace(target)


def _facts(
    recipe: TuneRecipe, base: Path, data: Path, dev: Path | None, drafts: Path | None, only: Path | None
) -> dict[str, Any]:
    files = {"data": data, "dev": dev, "drafts": drafts, "only": only}
    return {
        "recipe": asdict(recipe),
        "base": digests(base),
        **{name: None if file is None else digest(file) for name, file in files.items()},
    }


def _say(line: str) -> None:
    click.echo(line, err=True)
