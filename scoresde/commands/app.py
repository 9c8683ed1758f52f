"""What the commands share: Hydra composes their configuration; people read their help and their errors."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from scoresde.commands import early
from scoresde.commands.interrupts import behind, quick_to_stop
from scoresde.files.text import lines, plain, speaks
from scoresde.runs import torchrun
from solvers.errors import nearest
from solvers.registry import ENTRY_POINTS

TRACEBACK, HYDRA_RAISES = "SCORESDE_TRACEBACK", "HYDRA_FULL_ERROR"
STOPPING = (130, 141)  # exit statuses of who will have no more: by Ctrl-C, or by a pipe that is closed
EXPECTED = (ValueError, TypeError, ArithmeticError, OSError, ImportError)
CONVERTED = {  # formats, and what is given of them
    "edm": "a file and a folder: scoresde convert edm in.pkl out/",
    "images": "the folder of a run, and out=: scoresde convert images runs/cats out=cats.zip",
}
FORCE, MANY = "--force", ("-m", "--multirun")  # begin anew; a job for each combination
FLAGS = (FORCE, *MANY, "-h", "--help", "--hydra-help", "--cfg", "-c", "--resolve", "--package", "--info", "-i")
FLAGS += ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--run", "-r")
# Settings that are names of files: they are meant as they are typed, whatever they look like to Hydra's grammar.
PATHS = re.compile(r"(out|reference|edm|images|prompts|image|mask|clip|[\w.@]+\.(path|weights|weak|id))=")
TEXTS = re.compile(r"(prompt|negative_prompt)=(?![\['\"])")  # which are whatever somebody typed, but for a list
TITLE = "title"  # of a page, a text whatever is in it
NAMES = re.compile(r"(data\.)?(label|column)=")  # of classes and columns, which are whatever somebody called them


NUMBERS = re.compile(r"[\[\]\s,\d.eE+-]+")  # a number, a list of such, or a sweep over them
POWER = re.compile(r"\d+(\.\d+)?[eE]\+?\d{1,2}")
EXACT = 2**53  # up to which a float is a whole number for certain
MODEL, GRID = "model", "grid"  # groups of which a choice may be a place, or a list of times
TIMES = "times"  # the grid that is such a list
RANGED = ("guidance", "scale")  # a choice's number that may be a range of two, for scoresde tune


_PLUGGED: dict[str, dict[str, str]] = {}  # what plugins have added to each group, as the files of choices read


class UsageError(Exception):
    """A command line that makes no sense."""


class JobFailed:
    """What a job of ``-m`` gives in the place of a figure when it fails: no number, as Hydra's sweepers find out.

    An exception would end the sweep.

    Args:
        job: what is particular to it.
        line: why it failed; empty where another process of the job says so.
    """

    def __init__(self, job: str, line: str):
        self.job, self.line = job, line

    def __float__(self) -> float:
        raise ValueError(str(self))

    def __str__(self) -> str:
        return f"{self.job}: {self.line or 'failed'}"


class Jobs:
    """What became of the jobs of ``-m``, in whichever processes of this machine they ran, as notes in a folder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def note(self, number: int, failed: JobFailed | None) -> None:
        """Keep what became of a job.

        Raises:
            RuntimeError: it failed, and the folder is out of reach, so that nobody would be told at the end.
        """
        try:
            (self._folder / f"{number:06d}").write_text(str(failed or ""), encoding="utf-8")
        except OSError as error:
            if failed is not None:
                raise RuntimeError(str(failed)) from error

    def tell(self) -> None:
        """Say which have failed, a line each.

        Raises:
            SystemExit: some have.
        """
        notes = [path.read_text(encoding="utf-8") for path in sorted(self._folder.iterdir())]
        if failed := [note for note in notes if note]:
            for note in failed:
                _complain(f"job {note}", 2)
            _complain(f"error: {len(failed)} of {len(notes)} jobs failed", 2)
            raise SystemExit(1)


def config_folder() -> Path:
    """The folder of configurations: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "sample.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no configurations in {str(package / 'conf')!r}: scoresde is not installed whole")


def guarded(action: Callable[[], None]) -> int:
    """Run an action and give the program's exit status; what went wrong is one line on stderr, not a traceback.

    A traceback is for those who set SCORESDE_TRACEBACK=1.
    """
    status, line = _outcome(action)
    return _complain(line, status) if line else status


def _outcome(action: Callable[[], object]) -> tuple[int, str]:
    """The exit status of an action, and what went wrong in words; none where nobody is to be told."""
    try:
        action()
    except KeyboardInterrupt as interrupt:
        return 130, str(interrupt) or "interrupted"
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1, ""
    except Exception as error:
        if behind(error):
            return 130, "interrupted"
        if isinstance(error, MissingMandatoryValue):
            key = str(error.full_key)
            return 2, f"error: {key} must be given: {key}=…"
        if isinstance(error, (UsageError, HydraException, OmegaConfBaseException)):
            return 2, f"error: {error}"
        if isinstance(error, BrokenPipeError):
            # Who reads the output has had enough of it, as head does; what is still buffered has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141, ""
        if os.environ.get(TRACEBACK):
            raise
        return 1, f"error: {_said(error)}"
    return 0, ""


def _said(error: Exception) -> str:
    """What an error says; of one that nobody expected, its kind too, and what to do with it."""
    message = str(error)
    # Of torch, which is there where such an error is.
    memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in message
    if isinstance(error, MemoryError) or memory:
        return f"the memory is not enough ({message or 'MemoryError'}): a smaller batch_size needs less"
    if isinstance(error, EXPECTED):
        return message or type(error).__name__
    if isinstance(error, RuntimeError) and message:
        return message
    kind = type(error).__name__
    return (
        f"{kind}: {message}. No such error should get here: please report it to the project with what was typed "
        f"and the traceback that {TRACEBACK}=1 shows"
    )


def _complain(message: str, status: int) -> int:
    # Of several processes with one command line, one says what is wrong with it.
    if status != 2 or speaks():
        with suppress(OSError, ValueError):  # stderr may be closed
            print(f"scoresde: {plain(message)}", file=sys.stderr)
    return status


def launch(command: str, arguments: Sequence[str]) -> None:
    """Compose the configuration of a command from what the user typed, and run it: once, or for each job of ``-m``.

    Raises:
        UsageError: the configuration cannot be composed; names what is wrong and what is nearest to it.
        SystemExit: the task failed, and its error has been printed; or a help text has.
    """
    folder = config_folder()
    arguments = forced(command, arguments)
    _check_dashes(command, arguments)
    arguments = [part for item in arguments for part in placed(folder, item)]
    _check_lists(folder, arguments)
    for item in arguments:
        if item.startswith(("~", "+")) and not item.lstrip("~+").startswith("hydra"):
            raise UsageError(f"settings are neither added nor removed: write {item.lstrip('~+').partition('=')[0]}=…")
    with quick_to_stop():
        _plug(folder, arguments)
    # argparse does not read on after a flag that stands between settings.
    arguments = sorted(map(as_typed, arguments), key=lambda item: item not in MANY)

    def job(config: DictConfig) -> float | JobFailed | None:
        figure: list[float | None] = []
        # SystemExit passes through Hydra as it is, where an exception would be announced with all overrides first.
        # A list of fonts from an environment that is gone makes matplotlib say so at every word that it draws.
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.showwarning = partial(_note, warnings.showwarning)
            status, line = _outcome(lambda: figure.append(_start(command, config, arguments)))
        if line:
            _complain(line, status)
        if jobs is None or status in STOPPING:
            if status:
                raise SystemExit(status)
            return figure[0]
        failed = JobFailed(_varied(arguments), line) if status else None
        jobs.note(HydraConfig.get().job.num, failed)
        return failed or figure[0]

    for name, resolver in (("choices", _choices), ("settings", _settings)):
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    several = any(item in MANY or item.startswith("hydra.mode=") for item in arguments)
    with _typed(command, arguments), TemporaryDirectory() if several else nullcontext() as notes:
        jobs = None if notes is None else Jobs(Path(notes))
        try:
            hydra.main(version_base="1.3", config_path=str(folder), config_name=command)(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(_explain(error, command, arguments)) from error
        if jobs is not None:
            jobs.tell()


def _note(others: Callable[..., None], message: Warning | str, category: type[Warning], *rest: Any) -> None:
    """Say a warning of ours in a line of its own; others are for whoever wrote what they warn of."""
    if category.__module__.startswith("scoresde."):
        if speaks():
            print(f"scoresde: note: {lines(message)}", file=sys.stderr, flush=True)
    else:
        others(message, category, *rest)


def as_typed(argument: str) -> str:
    """A setting such that Hydra reads it as it is meant.

    The name of a file is what is typed: ``null``, ``1e3``, ``a=1``, ``b(1)``; that of a class is
    what Hydra reads, or what is typed where Hydra can read nothing; a prompt is what is typed, unless it begins with a
    bracket or a quote. Elsewhere ``1e4`` is a whole number.

    Raises:
        UsageError: a list or an empty name for ``out``.
    """
    key, equals, value = argument.partition("=")
    if key == TITLE and not value.startswith(("'", '"')):
        return f"{key}={quoted(value)}"
    if TEXTS.match(argument):
        return argument if value == "null" else f"{key}={quoted(value)}"
    if not PATHS.match(argument) and not NAMES.match(argument):
        return f"{key}{equals}{POWER.sub(_whole, value) if NUMBERS.fullmatch(value) else value}"
    try:
        read = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return argument if value.startswith(("'", '"', "[", "{")) else f"{key}={quoted(value)}"
    if NAMES.match(argument):
        return argument
    if key == "out" and (read == "" or isinstance(read, (list, dict))):
        raise UsageError(f"out must be the name of one folder, got {value!r}")
    other = isinstance(read, (int, float)) or (key == "out" and read is None)  # null is none, but for a folder
    other |= isinstance(read, str) and read != value and not value.startswith(("'", '"')) and "\\" not in value
    return f"{key}={quoted(value)}" if value and other else argument


def forced(command: str, arguments: Sequence[str]) -> list[str]:
    """The flag ``--force`` as the setting that it is, of commands that have it.

    Raises:
        UsageError: of others, or with a value.
    """
    if valued := [item for item in arguments if item.startswith(f"{FORCE}=")]:
        raise UsageError(f"{FORCE} takes no value, got {valued[0]!r}: write {FORCE}, or force=true")
    if FORCE in arguments and "force" not in composed(command, ()):
        raise UsageError(f"{command} has no {FORCE}: choose another folder with out=…")
    return ["force=true" if item == FORCE else item for item in arguments]


def placed(folder: Path, argument: str) -> list[str]:
    """A choice and its setting, of ``grid=[1,0.5,0]`` and of ``model=PLACE``: a folder, whatever it holds, or a hub id.

    A word that is no folder here is a choice, perhaps a mistyped one.
    """
    group, _, place = argument.partition("=")
    if group == GRID and place.startswith("[") and NUMBERS.fullmatch(place):
        return [f"grid={TIMES}", f"grid.{TIMES}={place}"]
    place = place.strip("'\"")
    if group != MODEL or _chosen(folder, argument) or place[:1] in ("", "["):
        return [argument]
    path = Path(place).expanduser()
    if "/" not in place and not path.exists():
        return [argument]
    here = path.exists() or place[0] in "/.~" or place.count("/") > 1 or path.parent.is_dir()
    return ["model=folder", f"model.path={place}"] if here else ["model=diffusers", f"model.id={place}"]


def _whole(found: re.Match[str]) -> str:
    """``1e4`` as ``10000``; ``1.5e0`` as it is."""
    value = float(found[0])
    return str(int(value)) if value.is_integer() and value <= EXACT else found[0]


def converted(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``scoresde convert``: ``edm in.pkl out/ …`` as the settings ``edm=in.pkl out=out/ …``.

    Raises:
        UsageError: an unknown format, or one without its file.
    """
    if not arguments or arguments[0].startswith("-") or "=" in arguments[0]:
        return list(arguments)
    kind, *rest = arguments
    if kind not in CONVERTED:
        raise UsageError(f"unknown format {kind!r}{nearest(kind, CONVERTED)}")
    # A file may have = in its name, as Lightning's have; what lies here is no setting.
    words = [item for item in rest if not item.startswith("-") and ("=" not in item or Path(item).exists())]
    if len(words) not in (1, 2):
        raise UsageError(f"scoresde convert {kind} takes {CONVERTED[kind]}")
    named = [f"{key}={quoted(word)}" for key, word in zip((kind, "out"), words, strict=False)]
    return [*named, *(item for item in rest if item not in words)]


def reported(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``scoresde report``: ``FOLDER FOLDER …`` as the setting ``folders=[…]``.

    The report of one folder is written into it, unless ``out`` says otherwise.
    """
    words = [item for item in arguments if not item.startswith("-") and ("=" not in item or Path(item).exists())]
    if not words:
        return list(arguments)
    rest = [item for item in arguments if item not in words]
    own = [f"out={quoted(words[0])}"] if len(words) == 1 and not any(item.startswith("out=") for item in rest) else []
    return [f"folders=[{','.join(map(quoted, words))}]", *own, *rest]


def quoted(word: str) -> str:
    """The word as Hydra reads it back, whatever is in it."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (f"\\{found[2]}" if found[2] else ""), word)
    return f"'{escaped}'"


def _plug(folder: Path, arguments: Sequence[str]) -> None:
    """Load the plugins that are named, and those of installed packages where a choice is none of ours; compose theirs.

    Raises:
        UsageError: ``plugins`` is no list of files.
        ValueError: a file that is not there or fails.
    """
    paths: list[str] = []
    for item in arguments:
        if item.startswith("plugins="):
            try:
                found = OverridesParser.create().parse_override(item).value()
            except HydraException as error:
                raise UsageError(f"cannot read {item!r}: plugins are written plugins=[mine.py]") from error
            paths = [str(path) for path in (found if isinstance(found, list) else [found])]
    foreign = [item for item in arguments if _chosen(folder, item) is False]
    if not paths and not (foreign and importlib.metadata.entry_points(group=ENTRY_POINTS)):
        return
    plugins = importlib.import_module("scoresde.plugins")  # and with it torch, which takes seconds
    if foreign:
        plugins.load_installed()
    plugins.load(paths)
    choices = importlib.import_module("scoresde.commands.choices")
    for group, registry in plugins.GROUPS.items():
        for name in registry.names():
            if not (folder / group / f"{name}.yaml").is_file() and not _is_ours(registry, name):
                ConfigStore.instance().store(name=name, group=group, node=choices.node(registry, name))
                _PLUGGED.setdefault(group, {})[name] = choices.text(registry, name)


def _chosen(folder: Path, item: str) -> bool | None:
    """Whether the choices of a group are ours; None for what is no choice."""
    group, _, value = item.partition("=")
    names = value.split(",")  # several, with -m
    if not group.isidentifier() or not all(map(str.isidentifier, names)) or not (folder / group).is_dir():
        return None
    return all((folder / group / f"{name}.yaml").is_file() for name in names)


def _is_ours(registry: Any, name: str) -> bool:
    return (registry[name].__module__ or "").startswith(("solvers.", "scoresde."))


def _check_dashes(command: str, arguments: Sequence[str]) -> None:
    """Refuse what begins with a dash and is none of Hydra's flags, about which argparse would print half a page."""
    for item in arguments:
        if not item.startswith("-"):
            continue
        flag, _, _ = item.partition("=")
        name = flag.lstrip("-").replace("-", "_")
        if name in composed(command, ()) and flag not in FLAGS:
            raise UsageError(f"settings are written without dashes: {name}=…")
        if flag not in FLAGS:
            raise UsageError(f"unknown flag {item!r}{nearest(flag, FLAGS)}")


def _check_lists(folder: Path, arguments: Sequence[str]) -> None:
    """Refuse lists of a group's choices, which Hydra would merge into one."""
    for item in arguments:
        group, _, value = item.partition("=")
        if not (value.startswith("[") and group.isidentifier() and (folder / group).is_dir()):
            continue
        several = f"{group}s"  # what a list of them is called
        advice = (
            f"compare several with scoresde bench '{several}={value}', or " if several in composed("bench", ()) else ""
        )
        each = value.strip("[] ").replace(" ", "")
        raise UsageError(f"{group}={value} would be merged into one {group}: {advice}run each with -m {group}={each}")


@contextmanager
def _typed(command: str, arguments: Sequence[str]) -> Iterator[None]:
    """What Hydra takes from its surroundings: the command line, and whether to raise errors or to print them."""
    argv, raises = sys.argv, os.environ.get(HYDRA_RAISES)
    sys.argv, os.environ[HYDRA_RAISES] = [f"scoresde {command}", *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if raises is None:
            del os.environ[HYDRA_RAISES]
        else:
            os.environ[HYDRA_RAISES] = raises


def _start(command: str, config: DictConfig, arguments: Sequence[str]) -> float | None:
    _check_numbers(config)
    if not torchrun.several():  # of which one says what is wrong, when they have found each other
        early.check(command, config, config_folder())
    with quick_to_stop():
        if config.plugins:  # a worker of -m has not seen the command line
            importlib.import_module("scoresde.plugins").load(config.plugins)
        module = importlib.import_module(f"scoresde.commands.{command}")  # and with it torch, which takes seconds
    return module.run(config, _destination(config, arguments))


def _check_numbers(config: DictConfig) -> None:
    """Refuse words where a choice's own file has a number."""
    for group, choice in HydraConfig.get().runtime.choices.items():
        path = config_folder() / str(group) / f"{choice}.yaml"
        if group not in config or not path.is_file():
            continue
        for key, default in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if not _is_number(default) or _is_number(given := config[group][key]):
                continue
            if (group, key) != RANGED or not isinstance(given, ListConfig) or not all(map(_is_number, given)):
                raise UsageError(f"{group}.{key} must be a number, got {given!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _destination(config: DictConfig, arguments: Sequence[str]) -> Path:
    """``out``, and in it a folder named after what is particular to this job of ``-m``."""
    out = Path(str(config.out)).expanduser()
    return out / _varied(arguments).replace(os.sep, "_") if HydraConfig.get().mode == RunMode.MULTIRUN else out


def _varied(arguments: Sequence[str]) -> str:
    """What is particular to this job of ``-m``."""
    known = {*arguments, "force=True"}  # as Hydra writes what --force is
    return ",".join(item for item in HydraConfig.get().overrides.task if item not in known)


def _choices(group: str, *, _root_: DictConfig) -> str:
    """Names in a config group, wrapped to stand in the second column of a help text."""
    files = (path.stem for folder in _folders(_root_) for path in (folder / group).glob("*.yaml"))
    names = sorted({*files, *_PLUGGED.get(group, ())})
    return textwrap.fill(", ".join(names), 100, subsequent_indent=" " * 12, break_on_hyphens=False)


def _settings(*, _root_: DictConfig) -> str:
    """The settings of all that is chosen, a paragraph for each group, with the comments beside them."""
    blocks = []
    for group, choice in _root_.hydra.runtime.choices.items():
        if not str(group).isidentifier() or (text := _text(_folders(_root_), str(group), str(choice))) is None:
            continue
        found = re.findall(r"^(?!name:)(\w+): ([^#\n]*?) *(?:# *(.*))?$", text, re.MULTILINE)
        width = max((len(f"{group}.{key}={value}") for key, value, _ in found), default=0)
        lines = [f"  {f'{group}.{key}={value}':<{width}}  {comment}".rstrip() for key, value, comment in found]
        if lines:
            blocks.append("\n".join([f"Settings of the chosen {group}, {choice}", *lines]))
    return "\n\n".join(blocks) or "What is chosen has no settings of its own"


def _folders(config: DictConfig) -> list[Path]:
    """Where choices are: in our folder, and in what --config-dir names."""
    sources = config.hydra.runtime.config_sources
    return list(dict.fromkeys([*(Path(each.path) for each in sources if each.schema == "file"), config_folder()]))


def _text(folders: Sequence[Path], group: str, choice: str) -> str | None:
    """The file of a choice, of another name for one that of what it names; None where nothing is chosen."""
    text = _PLUGGED.get(group, {}).get(choice)
    if text is None:
        paths = [path for folder in folders if (path := folder / group / f"{choice}.yaml").is_file()]
        if not paths:
            return None
        text = paths[0].read_text(encoding="utf-8")
    other = re.fullmatch(r"(?:#.*\n)*defaults:\n *- (\w+)\n", text)
    return _text(folders, group, other[1]) if other else text


def _explain(error: Exception, command: str, arguments: Sequence[str]) -> str:
    message = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"unknown {group} {choice!r}{nearest(choice, error.options)}"
    if found := re.search(r"Could not override '([^']+)'", message):
        return _explain_key(found[1], command, arguments)
    if found := re.search(r"Ambiguous value for argument '(.*)'", message):
        return f"several values in {found[1]!r}: add -m to run each, or write key=[…] for a list"
    if isinstance(error, OverrideParseException):
        quotes = """, and a value with signs of its own in quotes: "key='…'\"""" if "=" in error.override else ""
        return f"cannot read {error.override!r}: settings are written key=value{quotes}"
    return message


def _explain_key(key: str, command: str, arguments: Sequence[str]) -> str:
    if key == "experiment":
        given = next(item for item in arguments if item.startswith("experiment="))
        return f"{given} is in no folder: name yours with --config-dir, where it is experiment/<name>.yaml"
    parent, _, last = key.rpartition(".")
    config = composed(command, [item for item in arguments if not item.startswith((key, "-"))])
    siblings = OmegaConf.select(config, parent) if parent else config
    if not isinstance(siblings, DictConfig):
        return f"{command} has no setting {key!r}{nearest(parent, _keys(config))}"
    known = _keys(siblings)
    groups = [] if parent else [name for name in known if (config_folder() / name).is_dir()]
    if inner := [f"{group}.{last}" for group in groups if last in _keys(config[group])]:
        return f"{command} has no setting {key!r}; did you mean {' or '.join(map(repr, inner))}?"
    return f"{command} has no setting {key!r}{nearest(last, known) if known else f'; the chosen {parent} has none'}"


def _keys(config: DictConfig) -> list[str]:
    return [str(key) for key in config if key != "name"]


def composed(command: str, arguments: Sequence[str]) -> Any:
    """The configuration without what could not be understood, to look for what was meant."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            return hydra.compose(command, list(arguments))
        except (HydraException, OmegaConfBaseException):
            return hydra.compose(command)
