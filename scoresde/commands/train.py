"""``scoresde train``: a model folder from images."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from omegaconf import DictConfig, ListConfig
from PIL import Image

import scoresde
from scoresde import models
from scoresde import process as processes
from scoresde.commands import fitting, progress, values
from scoresde.commands.numbers import positive
from scoresde.commands.progress import Kept, Progress, source_of
from scoresde.data import Columns, Images, Resizing, load, load_mapped, to_pixels
from scoresde.files import digest, regular, replacing
from scoresde.files.pictures import save_grid
from scoresde.files.text import say
from scoresde.metrics import Score
from scoresde.models import Checkpoint
from scoresde.process import Process
from scoresde.runs import record, trackers
from scoresde.runs.hardware import describe
from scoresde.runs.ranks import Ranks, current
from scoresde.training import OBJECTIVES, Settings, Trainer, augmentation, logs
from scoresde.training.objectives import DEFAULT
from scoresde.training.trainer import CHECKPOINT, EMA

MODEL = "model"
RESULTS = (f"{MODEL}/{models.CONFIG}", f"{MODEL}/{models.WEIGHTS}", "loss.png", "samples.png")
MARKS = ("data", "network", "epochs")  # of a record of this command's
SUMS = "results.sha256"  # of RESULTS, as sha256sum writes and checks them
# What may differ when a run is taken up again.
PASSING = ("out", "device", "threads", "every", "accumulate", "compile", "log", "average")
PASSING += "fid", "fid_every", "features", "reference", "statistics"
AUTO, EPOCHS, STEPS_LEAST = (
    "auto",
    40,
    2000,
)  # where no number of epochs is asked for, and the steps that these are at least
FEW = 1000  # steps below which a run is told to be short
EVERY, LINES, LEAST = (
    250,
    10,
    20,
)  # steps between log lines at most, lines of a short run, and steps between them at least
SUBS = (1, 1.5, 2, 3, 5, 7)  # ticks of a decade
POINTS = 40  # of a curve of losses up to which each is marked
NAMED = 100  # classes that are told by their names
ROWS, UNLABELLED_COLUMNS, STEPS = 4, 8, 12  # of the picture of samples


@dataclass(frozen=True)
class Prepared:
    """All that a run needs, before anything is written.

    Attributes:
        trainer: of it.
        settings: as they are recorded.
        every: steps between log lines.
        weights: dtype of the finished model.
        shown: programs that see the losses.
        progress: measures FID; None for none.
        statistics: of the training images, to be kept beside the model; None for none.
        made: what became of the pictures, in words; empty for nothing.
    """

    trainer: Trainer
    settings: dict[str, Any]
    every: int
    weights: torch.dtype
    shown: Sequence[str]
    progress: Progress | None
    statistics: Kept | None
    made: str


def run(config: DictConfig, out: Path) -> float | None:
    """Train as ``conf/train.yaml`` says, in the folder ``out``; take up what was interrupted there.

    Under ``torchrun`` the processes share each batch.

    Returns:
        The last FID where it was measured; else the mean loss over levels of noise on held-out images, where there are
        some; else the last loss.

    Raises:
        ValueError: a setting out of range, data that cannot be read, or a folder with another run.
        LostError: another process of the run is gone.
        KeyboardInterrupt: with the step from which the same command goes on.
    """
    ranks = current()
    out = Path(ranks.first(lambda: str(out)))  # the default has the time in it
    prepared = ranks.agree(lambda: _prepared(config, out, ranks))
    with ExitStack() as stack:
        anew = values.forced(config)
        before = ranks.first(lambda: _begun(prepared, prepared.trainer.settings.epochs, out, stack, anew))
        if before is not None:
            prepared.trainer.keep(before)
            _train(prepared, out, anew)
    return None if ranks.rank else _figure(out)


def _figure(out: Path) -> float:
    """What says in one number how a training ended."""
    card = models.load(out / MODEL).card["training"]
    if "fid" in card:
        return card["fid"][-1]["fid"]
    if "held_out" in card:
        return fmean(level["loss"] for level in card["held_out"]["levels"])
    return card["loss"][-1][1]


def _prepared(config: DictConfig, out: Path, ranks: Ranks) -> Prepared:
    settings = values.resolved(config, without=PASSING)
    asked = None if config.every is None else values.whole(config, "every")
    weights = values.dtype(config, "weights", ("float32", "bfloat16"))
    if config.threads is not None:
        torch.set_num_threads(values.whole(config, "threads"))
    shown = trackers.named(config.log)
    trainer, resizing = _trainer(config, settings, out, ranks)
    settings[record.INPUTS] = {"data": trainer.content}
    first = ranks.rank == 0  # which alone measures
    chosen = values.resolved(config)
    progress = _progress(config, chosen, trainer, resizing) if first else None
    statistics = Kept.of(chosen, trainer) if values.flag(config, "statistics") and first else None
    _picture(trainer, rows=1, steps=1)  # what cannot be sampled is refused now, not after hours
    every = asked or min(EVERY, max(trainer.steps // LINES, LEAST))
    made = ", ".join(filter(None, (str(resizing), "mirrored at random" if trainer.flip else "")))
    return Prepared(trainer, settings, every, weights, shown, progress, statistics, made)


def _begun(prepared: Prepared, epochs: int, out: Path, stack: ExitStack, anew: bool) -> dict[str, Any] | None:
    """What the folder, which the stack holds from now on, records of the run; None where all is done already."""
    trainer, settings = prepared.trainer, prepared.settings
    unwritable = stack.enter_context(record.held(out, (MODEL,)))
    files = (CHECKPOINT, *RESULTS, SUMS, *logs.files(out))
    anew = anew and unwritable is None and record.anew(out, MARKS, lambda _: files)
    before = record.recorded(out) or {}
    trainer.keep(before)
    _settle(settings, trainer.settings)
    # With a checkpoint, other epochs are the trainer's to judge.
    planned = before.get("epochs", epochs) if trainer.checkpoint.exists() else epochs
    complete = not anew and record.complete(out, {**settings, "epochs": planned}, RESULTS)
    if complete and planned == epochs and _whole(out) and _averaged(out) == trainer.average:
        if unwritable is None and not (out / SUMS).exists():  # killed before that, or made by an earlier version
            _seal(out, _sums(out))
        if prepared.statistics is not None and not prepared.statistics.kept(out / MODEL):
            if unwritable is not None:
                raise unwritable
            prepared.statistics.keep(out / MODEL, settings)  # and nothing else, so that the model stays the same one
        say(f"the model of this configuration is already in {out / MODEL}")
        return None
    if unwritable is not None:
        raise unwritable
    return before


def _settle(settings: dict[str, Any], chosen: Settings) -> None:
    """Have the settings of training as they are recorded."""
    recorded = chosen.recorded()
    for field in fields(Settings):
        settings.pop(field.name, None)
        if field.name in recorded:
            settings[field.name] = recorded[field.name]


def _sums(out: Path) -> str:
    return "".join(f"{digest(out / name)}  {name}\n" for name in RESULTS)


def _seal(out: Path, sums: str) -> None:
    with replacing(out / SUMS) as path:
        path.write_text(sums, encoding="utf-8")


def _whole(out: Path) -> bool:
    """Whether a finished run's results are as they were written; of earlier versions', whether they can be read."""
    try:
        if (out / SUMS).exists():
            return regular(out / SUMS).read_text(encoding="utf-8") == _sums(out)
        models.load(out / MODEL)
        for name in RESULTS:
            if name.endswith(".png"):
                with Image.open(out / name, formats=("PNG",)) as picture:
                    picture.load()
    except Exception:  # of a damaged file anything may come
        return False
    return True


def _train(prepared: Prepared, out: Path, anew: bool) -> None:
    trainer, progress = prepared.trainer, prepared.progress
    ranks = trainer.ranks
    resumed = ranks.agree(trainer.resume)
    try:
        with ExitStack() as stack:
            open_logs: list[trackers.Log] = []
            ranks.first(lambda: open_logs.extend(_opened(prepared, resumed, out, stack)))
            trainer.run(
                lambda trainer: _show(trainer, _report(trainer), open_logs),
                prepared.every,
                progress,
                progress.every if progress else 1,
            )
    except KeyboardInterrupt as interrupt:
        if ranks.rank:
            raise SystemExit(130) from interrupt  # one says so
        step = int(trainer.losses[-1]["step"]) if trainer.losses else 0
        raise KeyboardInterrupt(f"interrupted; {values.going_on(out, anew)} from step {step}") from interrupt
    if ranks.rank == 0:
        _finish(prepared, out)


def _opened(prepared: Prepared, resumed: bool, out: Path, stack: ExitStack) -> list[trackers.Log]:
    """Tell what is trained, record it, and open what the losses are shown in."""
    trainer, ranks = prepared.trainer, prepared.trainer.ranks
    shared = f", {ranks.size} processes" if ranks.size > 1 else ""
    say(
        f"{len(trainer.data)} images of {trainer.data.shape}, {trainer.data.classes} classes; "
        f"{sum(value.numel() for value in trainer.net.parameters()):,} parameters; {describe(trainer.device)}{shared}"
    )
    if prepared.made:
        say(f"pictures are {prepared.made}")
    if names := trainer.data.names:
        told = [f"{label} {name}" for label, name in enumerate(names[:NAMED])]
        say(f"classes: {', '.join(told)}{', …' if len(names) > NAMED else ''}; sample takes label=<name> or the number")
    if resumed:
        say(f"going on from step {trainer.step} of {trainer.steps}")
        _tell_continued(trainer)
        if trainer.step == trainer.steps:
            trainer.save()  # what was read may have been damaged where nobody reads it
        elif (out / MODEL / models.WEIGHTS).exists():
            _seal(out, "")  # the model there is of fewer epochs: no sums are those of this run until it ends
    if trainer.steps < FEW:
        enough = -(-FEW // trainer.per_epoch)
        say(
            f"note: {trainer.steps} steps are few: below {FEW} or so the averaged weights, which are the model, are "
            f"hardly trained; more epochs (epochs={enough} are {enough * trainer.per_epoch} steps) or a smaller "
            "batch_size make more"
        )
    record.write(out, prepared.settings, trainer.device)
    return [stack.enter_context(trackers.LOGS[name](out, trainer.step, prepared.settings)) for name in prepared.shown]


def _finish(prepared: Prepared, out: Path) -> None:
    """Write the finished model."""
    trainer, settings = prepared.trainer, prepared.settings
    levels = _draw(trainer)
    compared = _compared(trainer, prepared.progress)
    preconditioning = trainer.task.preconditioning
    models.save(
        out / MODEL,
        trainer.averaged,
        network=settings["network"]["name"],
        process=trainer.process,
        prediction=trainer.task.stored,
        shape=trainer.data.shape,
        classes=trainer.data.classes,
        class_names=trainer.data.names,
        time_scale=_time_scale(trainer.process) if preconditioning is None else 1.0,
        preconditioning=preconditioning,
        training={**_card(trainer, settings, levels), **compared},
        noise_scale=_noise_scale(trainer),
        dtype=prepared.weights,
    )
    _seal(out, _sums(out))
    if prepared.statistics is not None:
        prepared.statistics.keep(out / MODEL, settings)  # last: of a finished run the same command makes them alone
    say(f"{out}: {', '.join((*RESULTS, logs.LOSSES, SUMS, record.CONFIG, record.VERSIONS))}")


def _trainer(config: DictConfig, settings: dict[str, Any], out: Path, ranks: Ranks) -> tuple[Trainer, Resizing]:
    given = {field.name: _setting(config, field.name, str(field.type)) for field in fields(Settings)}
    chosen = Settings(**{**given, "epochs": given["epochs"] or 1})
    name, options = values.named(settings["process"])
    if name is None:
        raise ValueError(f"training needs a process of its own: process={', '.join(sorted(processes.PROCESSES))}")
    kind, choices = (
        (DEFAULT, {}) if _begun_without(values.begun_in(config, out)) else values.named(settings["objective"])
    )
    objective = OBJECTIVES.get(str(kind), **choices)
    process = objective.adapted(processes.get(name, **options))
    models.check_levels(process)  # or the model could not be read when it is done
    settings["prediction"] = objective.prediction if config.prediction is None else config.prediction
    if kind == DEFAULT:
        del settings["objective"]  # as in runs of before there was a choice, and so below
    described = settings["data"]
    resizing = Resizing.of({f"data.{key}": value for key, value in described.items()}, "data.")
    Resizing.drop(described)
    if not isinstance(flip := described.pop("flip", False), bool):
        raise ValueError(f"data.flip must be true or false, got {flip!r}")
    if flip:
        described["flip"] = True  # else it is not recorded: runs of before there was it are the same
    augmentation.check(augment := described.pop("augment", 0), "data.augment")
    if augment:
        described["augment"] = float(augment)  # as above
        _check_told(settings["network"]["name"])
    try:
        columns = Columns(described.get("column"), described.get("label"))
    except TypeError as error:
        raise ValueError(f"data.{error}") from error
    if not isinstance(mapped := described.pop("mapped", False), bool):
        raise ValueError(f"data.mapped must be true or false, got {mapped!r}")
    read = load_mapped if mapped else load
    data = read(described["path"], described.get("split", "train"), resizing, columns)
    shape = data.shape
    if shape[0] not in (1, 3):
        raise ValueError(f"{settings['data']['path']!r} has images of {shape[0]} channels: training takes 1 or 3")
    data, held_out = _parted(data, values.whole(config, "held_out", least=0))
    if held_out is None:
        del settings["held_out"]
    chosen = replace(chosen, epochs=given["epochs"] or _enough(len(data) // chosen.batch_size, out))
    torch.manual_seed(chosen.seed)
    given = {"in_channels": shape[0], "num_classes": data.classes}
    if augment:
        given["augment"] = augmentation.CONDITION
    net = models.build({**settings["network"], **given}, shape)
    scale = _time_scale(process)
    trainer = Trainer(
        net,
        process,
        settings["prediction"],
        data,
        chosen,
        out,
        time_input=partial(operator.mul, scale),
        device=ranks.device(values.device(config)),
        objective=objective,
        held_out=held_out,
        flip=flip,
        augment=augment,
        accumulate=values.whole(config, "accumulate"),
        compile=values.flag(config, "compile"),
        ranks=ranks,
        average=None if config.average in (None, EMA) else values.number(config, "average"),
    )
    return trainer, resizing


def _enough(per_epoch: int, out: Path) -> int:
    """Epochs where none are asked for: those that a run in this folder was begun with, or of which a model can come."""
    before = (record.recorded(out) or {}).get("epochs")
    return before if type(before) is int and before > 0 else max(EPOCHS, -(-STEPS_LEAST // max(1, per_epoch)))


def _progress(config: DictConfig, settings: dict[str, Any], trainer: Trainer, resizing: Resizing) -> Progress | None:
    """What measures FID, and every how many steps; None where it is not asked for."""
    if not (samples := values.whole(config, "fid", least=0)):
        return None
    every = trainer.steps if config.fid_every is None else values.whole(config, "fid_every")
    return progress.of(settings, samples, every, trainer, resizing)


def _averaged(out: Path) -> str | float:
    """Which average the model in a folder is."""
    return models.load(out / MODEL).card["training"].get("average", EMA)


def _compared(trainer: Trainer, measure: Progress | None) -> dict[str, Any]:
    """How good all averages are, where there are several and something tells; said, and for the card."""
    found: list[dict[str, Any]] = []
    if len(trainer.averages) > 1 and (measure is not None or trainer.held_out is not None):
        for name, net in trainer.averages.items():
            figures: dict[str, Any] = {"average": name}
            if trainer.held_out is not None:
                figures["held_out_loss"] = float(f"{trainer.held_out_loss(net):.6g}")
            if measure is not None:
                figures |= measure(trainer.task.model(net))
            found.append(figures)
            told = (f"{key} {figures[key]:.5g}" for key in ("held_out_loss", "fid") if key in figures)
            say(f"average {name}: {', '.join(told)}{' (the model)' if name == trainer.average else ''}")
    return {
        **({} if trainer.average == EMA else {"average": trainer.average}),
        **({"averages": found} if found else {}),
    }


def _check_told(network: str) -> None:
    """Refuse to augment images for a network that cannot be told how.

    Raises:
        ValueError: names it, and those that can.
    """
    if "augment" not in models.NETWORKS.options(network):
        able = [name for name in models.NETWORKS.names() if "augment" in models.NETWORKS.options(name)]
        raise ValueError(
            f"data.augment needs a network that is told how images were changed, by its option 'augment': {network!r} "
            f"has none; {', '.join(able)} have it"
        )


def _parted(data: Images, count: int) -> tuple[Images, Images | None]:
    """Images to train on, and ``count`` others, drawn alike whatever the seed of the run; None for none.

    Raises:
        ValueError: nothing is left, or nothing of a class.
    """
    if count == 0:
        return data, None
    if count >= len(data):
        raise ValueError(f"held_out must be less than the {len(data)} images, got {count}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    rest, held_out = data.part(order[count:].sort().values), data.take(order[:count].sort().values)
    if data.labels is not None and rest.labels is not None:
        before, after = (labels.bincount(minlength=data.classes) for labels in (data.labels, rest.labels))
        if lost := ((before > 0) & (after == 0)).nonzero().flatten().tolist():
            name = data.names[lost[0]] if data.names else lost[0]
            raise ValueError(f"held_out={count} leaves no image of class {name} to train on")
    return rest, held_out


def _setting(config: DictConfig, name: str, kind: str) -> Any:
    kind, _, none = kind.partition(" | ")
    if kind == "str" or (none and config[name] is None):
        return config[name]
    if kind.startswith("tuple"):
        given = config[name] if isinstance(config[name], ListConfig) else [config[name]]
        return tuple(positive(name, value) for value in given)
    if name == "epochs" and config[name] == AUTO:
        return None
    if kind == "int":
        return values.whole(config, name, least=0 if name in ("warmup", "seed") else 1)
    return values.number(config, name) if kind == "float" else values.flag(config, name)


def _time_scale(process: Process) -> float:
    """Networks know times from 0 to 1000 by their sinusoids; processes on [0, 1] are stretched to that."""
    return 1000.0 if process.t_max <= 1 else 1.0


def _tell_continued(trainer: Trainer) -> None:
    """Say what becomes of the learning rate of a run that was planned for other epochs."""
    if not trainer.continued or (last := trainer.continued[-1])["step"] != trainer.step:
        return
    epochs, schedule = trainer.settings.epochs, trainer.settings.schedule
    say(
        f"note: epochs={last['epochs']} was asked before; the learning rate, {trainer.last_rate:.3g} in the last step, "
        f"goes on at {trainer.rate(trainer.step):.3g}, where schedule={schedule} with epochs={epochs} is at this step"
    )


def _report(trainer: Trainer) -> Sequence[Mapping[str, float]]:
    """Tell how far the run is, and return the held-out loss by noise level."""
    recent = [{"step": 0, "seconds": 0.0}, *trainer.losses][-8:]
    rate = (recent[-1]["step"] - recent[0]["step"]) / max(recent[-1]["seconds"] - recent[0]["seconds"], 1e-9)
    left = round((trainer.steps - trainer.step) / rate / 60)
    say(
        f"step {trainer.step}/{trainer.steps}  epoch {trainer.step / trainer.per_epoch:.1f}  "
        f"loss {trainer.losses[-1]['loss']:.5f}  {rate * trainer.settings.batch_size:.0f} images/s  "
        f"{left // 60} h {left % 60:02d} min left",
    )
    if "fid" in (last := trainer.losses[-1]):
        say(f"{Score(last['fid'], last['fid_space'], last['fid_samples'])}")
    if levels := _draw(trainer):
        told = "  ".join(f"{level['sigma']:.2g}: {level['loss']:.3g}" for level in levels)
        say(f"held-out loss by σ/α  {told}")
    return levels


def _show(trainer: Trainer, levels: Sequence[Mapping[str, float]], open_logs: Sequence[trackers.Log]) -> None:
    for log in open_logs:
        last = logs.row(trainer, trainer.losses[-1])
        held_out = {f"held_out_loss/{level['sigma']:.2g}": level["loss"] for level in levels}
        shown = {key: value for key, value in last.items() if isinstance(value, float)}
        log.write(trainer.step, shown | held_out)


def _draw(trainer: Trainer) -> Sequence[Mapping[str, float]]:
    """Write the pictures and the table of losses, and return what they show by noise level."""
    logs.write_losses(trainer)
    pixels = to_pixels(_picture(trainer, ROWS, STEPS))
    classes = trainer.data.classes
    names = list(trainer.data.names or map(str, range(classes))) if classes else None
    save_grid(trainer.folder / "samples.png", pixels, classes or UNLABELLED_COLUMNS, column_labels=names)
    levels = trainer.by_level()
    figure = Figure(figsize=(12 if levels else 6, 4), layout="constrained")
    axes, *others = figure.subplots(1, 2 if levels else 1, squeeze=False)[0]
    steps, losses = ([entry[key] for entry in trainer.losses] for key in ("step", "loss"))
    axes.plot(steps, losses, marker="o" if len(losses) <= POINTS else None, markersize=4)
    axes.set(xlabel="step", ylabel=_quantity(trainer), yscale="log", xlim=(0, 1.02 * trainer.steps))
    if max(losses) < 3 * min(losses):  # in such a stretch of a decade its own ticks are one or none
        axes.set_ylim(min(losses) / 1.5, 1.5 * max(losses))
        axes.yaxis.set_major_locator(LogLocator(subs=SUBS))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    for axes in others:
        sigma = [level["sigma"] for level in levels]
        axes.plot(sigma, [level["loss"] for level in levels], marker=".", label="loss")
        axes.plot(sigma, [level["error"] for level in levels], marker=".", label="squared error of the denoiser")
        axes.set(xlabel="noise level σ/α", ylabel=f"held-out, at step {trainer.step}", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(trainer.folder / "loss.png") as path:
        figure.savefig(path, dpi=120)
    return levels


def _quantity(trainer: Trainer) -> str:
    if trainer.task.objective.weight is None:
        return f"mean squared error of {trainer.prediction}"
    return f"loss of {trainer.task.objective.described['name']}"


def _picture(trainer: Trainer, rows: int, steps: int) -> torch.Tensor:
    """Samples of the averaged weights, a class in each column and the same noise along each row."""
    classes, shape = trainer.data.classes, trainer.data.shape
    count = rows * (classes or UNLABELLED_COLUMNS)
    index = torch.arange(count)
    return scoresde.sample(
        trainer.model,
        "dpmpp_2m",
        steps=steps,
        shape=(count, *shape),
        seeds=(index // classes).tolist() if classes else 0,
        cond={"label": index % classes} if classes else {},
        device=trainer.device,
    ).samples


def _noise_scale(trainer: Trainer) -> float | None:
    """σ* of the averaged weights; None where so little was learned that there is none."""
    model = trainer.model
    try:
        return fitting.measured(model, Checkpoint(model, trainer.data.shape, trainer.data.classes, {}))
    except ValueError:
        return None


def _begun_without(out: Path | None) -> bool:
    """Whether nobody names an objective, and the folder has a run of when ``ddpm`` was taken then, and not recorded."""
    typed = any(item.startswith("objective") for item in HydraConfig.get().overrides.task)
    before = None if typed or out is None else record.recorded(out)
    return before is not None and "objective" not in before


def _card(trainer: Trainer, settings: dict[str, Any], levels: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """How the model was made; files by their names, since folders say nothing to others."""
    typed = [item for item in HydraConfig.get().overrides.task if not item.startswith(("out=", "force="))]
    described = source_of(settings)
    source, name = str(settings["data"]["path"]), described["path"]
    labels = trainer.data.labels
    chosen, deviation = settings.get("objective"), trainer.task.sigma_data
    rounded = [{key: float(f"{value:.6g}") for key, value in level.items()} for level in levels]
    figures = [{key: entry[key] for key in ("step", *logs.FIGURES)} for entry in trainer.losses if "fid" in entry]
    return {
        "command": " ".join(["scoresde train", *(item.replace(source, name) for item in typed)]),
        "data": {**described, "images": len(trainer.data)},
        "class_counts": [] if labels is None else torch.bincount(labels).tolist(),
        "settings": trainer.settings.recorded(),
        "weights": "exponential moving average" if trainer.average == EMA else "power-function average",
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "hardware": describe(trainer.device),
        "torch": torch.__version__,
        "loss": [[entry["step"], round(entry["loss"], 6)] for entry in trainer.losses],
        **({"fid": figures} if figures else {}),
        **({"continued": trainer.continued} if trainer.continued else {}),
        **({} if chosen is None else {"objective": chosen}),
        **({} if deviation is None else {"sigma_data": deviation}),
        **({} if trainer.held_out is None else {"held_out": {"images": len(trainer.held_out), "levels": rounded}}),
    }
