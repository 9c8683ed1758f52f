"""Training: the loss has its minimum at the truth, and a run left and taken up again ends in the same bits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scoresde.data import Images, load
from scoresde.exact import Gaussian
from scoresde.networks.unet import UNet
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from scoresde.training import Settings, Trainer, loss
from solvers.prediction import TYPES

DIGITS = load("digits").take(torch.arange(64))
SETTINGS = Settings(epochs=2, batch_size=16, warmup=3, learning_rate=3e-3, ema=0.999, seed=5)


def trainer(folder: Path, settings: Settings = SETTINGS, data: Images = DIGITS, **options: Any) -> Trainer:
    torch.manual_seed(options.pop("init", 0))
    net = options.pop("net", None) or UNet(channels=(16, 32), depth=1, num_classes=10)
    process, prediction = options.pop("process", VP()), options.pop("prediction", "epsilon")
    return Trainer(net, process, prediction, data, settings, folder, time_input=lambda t: 1000 * t, **options)


class LeaveError(Exception):
    """Raised by a report, to leave the run in its middle."""


def leave_at(step: int) -> Any:
    def report(run: Trainer) -> None:
        if run.step == step:
            raise LeaveError

    return report


def nothing(run: Trainer) -> None:
    pass


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of eight steps without interruption."""
    run = trainer(tmp_path_factory.mktemp("straight"))
    run.run(nothing, every=3)
    return run


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_run_left_at_any_step_and_taken_up_again_ends_in_the_same_bits(
    tmp_path: Path, straight: Trainer, stop: int
) -> None:
    assert straight.step == straight.steps == 8
    with pytest.raises(LeaveError):
        trainer(tmp_path).run(leave_at(stop), every=1)
    again = trainer(tmp_path, init=99)
    assert again.resume() and again.step == stop
    again.run(nothing, every=2)
    for name in ("net", "averaged"):
        ended = getattr(again, name).state_dict()
        assert all(torch.equal(value, ended[key]) for key, value in getattr(straight, name).state_dict().items())
    assert again.losses[-1]["step"] == 8 and len(again.losses) > stop


def test_a_run_with_mirrored_images_goes_on_in_the_same_bits_and_under_no_other_setting(
    tmp_path: Path, straight: Trainer
) -> None:
    for name in ("whole", "left"):
        (tmp_path / name).mkdir()
    whole = trainer(tmp_path / "whole", flip=True)
    whole.run(nothing, every=3)
    with pytest.raises(LeaveError):
        trainer(tmp_path / "left", flip=True).run(leave_at(5), every=1)
    with pytest.raises(ValueError, match="made with other values of flip;"):
        trainer(tmp_path / "left").resume()
    with pytest.raises(ValueError, match="made with other values of flip;"):
        trainer(straight.folder, flip=True).resume()
    again = trainer(tmp_path / "left", flip=True, init=99)
    assert again.resume() and again.step == 5
    again.run(nothing, every=3)
    ended, plain = again.net.state_dict(), straight.net.state_dict()
    assert all(torch.equal(value, ended[key]) for key, value in whole.net.state_dict().items())
    assert not all(torch.equal(value, plain[key]) for key, value in ended.items())


def test_about_half_of_the_images_are_mirrored_and_nothing_else_is_drawn_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def keep(task: Any, net: Any, x0: Tensor, epsilon: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        seen.extend([x0, cond["label"], torch.cat([epsilon.flatten(), t])])
        return net(x0, torch.ones(len(x0)), **cond).mean()

    monkeypatch.setattr("scoresde.training.trainer.Task.at", keep)
    for flip in (False, True):
        trainer(tmp_path, flip=flip).run(nothing, every=8)
    plain, mirrored = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    count = 0
    for (x, label, drawn), (y, same_label, same_drawn) in zip(
        zip(*[iter(plain)] * 3, strict=True), zip(*[iter(mirrored)] * 3, strict=True), strict=True
    ):
        assert torch.equal(label, same_label) and torch.equal(drawn, same_drawn)
        flipped = torch.tensor([not torch.equal(*pair) for pair in zip(x, y, strict=True)])
        assert torch.equal(torch.where(flipped.view(-1, 1, 1, 1), x.flip(-1), x), y)
        count += int(flipped.sum())
    assert 40 < count < 88  # of 128


def test_the_log_holds_the_mean_loss_of_each_stretch(straight: Trainer) -> None:
    assert [entry["step"] for entry in straight.losses] == [3, 6, 8]
    assert 0.1 < straight.losses[0]["loss"] < 2


def test_averaged_weights_lag_behind_the_weights(straight: Trainer) -> None:
    start = trainer(straight.folder).net.state_dict()
    ahead = behind = 0.0
    for key, value in straight.net.state_dict().items():
        ahead += float((value - start[key]).square().sum())
        behind += float((straight.averaged.state_dict()[key] - start[key]).square().sum())
    assert 0 < behind < ahead


def test_a_folder_without_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    assert not trainer(tmp_path).resume()


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        ({"settings": Settings(epochs=2, batch_size=16, warmup=3, learning_rate=1e-3)}, "learning_rate, settings.seed"),
        ({"process": VP(0.1, 10)}, "process.beta_max"),
        ({"process": Flow()}, "process.beta_max, process.beta_min, process.name"),
        ({"prediction": "flow"}, "values of prediction;"),
        ({"data": DIGITS.take(torch.arange(48))}, "values of images;"),
        ({"net": UNet(channels=(16, 32), depth=2, num_classes=10)}, r"network\.down\.1\.first\.bias"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_the_name_of_what_differs(
    straight: Trainer, changed: dict[str, Any], keys: str
) -> None:
    with pytest.raises(ValueError, match=f"made with other values of .*{keys}|{keys}"):
        trainer(straight.folder, **changed).resume()


def test_a_truncated_or_foreign_checkpoint_is_refused_with_its_path(tmp_path: Path, straight: Trainer) -> None:
    whole = straight.checkpoint.read_bytes()
    run = trainer(tmp_path)
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"words"):
        run.checkpoint.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint.pt' is damaged or foreign"):
            run.resume()
    torch.save({"format": "another", "step": 3}, run.checkpoint)
    with pytest.raises(ValueError, match="not a training checkpoint of the format 'scoresde-training-1'"):
        run.resume()
    torch.save(nn.Linear(1, 1), run.checkpoint)  # would run code if it were unpickled
    with pytest.raises(ValueError, match="damaged or foreign"):
        run.resume()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 1, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"epochs": 1, "learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"epochs": 1, "label_dropout": 1.5}, r"label_dropout must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**options)


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 65 is larger than the data set of 64 images"):
        trainer(tmp_path, Settings(epochs=1, batch_size=65))


class Spy(nn.Module):
    """Keeps the labels and times it is fed; predicts a multiple of its input."""

    def __init__(self, start: float = 0.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))
        self.labels: list[Tensor] = []
        self.times: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.times.append(t)
        if label is not None:
            self.labels.append(label)
        return self.scale * x


def test_labels_reach_the_network_and_the_asked_share_is_dropped(tmp_path: Path) -> None:
    data, spy = load("digits").take(torch.arange(1400)), Spy()
    trainer(tmp_path, Settings(epochs=3, batch_size=200, label_dropout=0.25), data, net=spy).run(nothing, every=100)
    labels = torch.cat(spy.labels)
    dropped = float((labels == 10).float().mean())
    assert abs(dropped - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4200)
    assert data.labels is not None
    kept, share = labels[labels < 10].bincount(minlength=10), data.labels.bincount(minlength=10) / 1400
    assert ((kept - 0.75 * 4200 * share).abs() < 5 * (0.75 * 4200 * share).sqrt()).all()


def test_every_epoch_sees_every_image_once_in_another_order_and_unlabelled_data_have_no_label(tmp_path: Path) -> None:
    data = Images(torch.arange(64, dtype=torch.uint8).view(64, 1, 1, 1), None)
    spy = Spy()
    run = trainer(tmp_path, Settings(epochs=2, batch_size=16), data, net=spy)
    orders: list[Tensor] = []
    for batch in run._batches():
        orders.append(batch)
        run.step += 1
    first, second = torch.cat(orders[:4]), torch.cat(orders[4:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(64))
    assert not torch.equal(first, second)
    run.step = 0
    run.run(nothing, every=8)
    assert not spy.labels


def test_a_diverging_run_stops_with_the_step_and_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    run = trainer(tmp_path, net=Spy(math.inf))
    with pytest.raises(FloatingPointError, match="loss became .* before step 1; lower learning_rate"):
        run.run(nothing, every=1)
    assert not run.checkpoint.exists()


PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
MEAN, COVARIANCE = torch.tensor([0.5, -0.3]), torch.tensor([[0.6, 0.2], [0.2, 0.3]])


def draws(seed: int, count: int = 4000) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return MEAN + torch.randn(count, 2, generator=generator) @ torch.linalg.cholesky(COVARIANCE).T


@pytest.mark.parametrize("prediction", [name for name in TYPES if name != "score"])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_no_perturbation_of_the_exact_model_has_a_lower_loss(process: Process, prediction: str) -> None:
    exact = Gaussian(process, MEAN, COVARIANCE, prediction=prediction)

    def value(change: Any) -> float:
        def net(x: Tensor, t: Tensor) -> Tensor:
            return change(exact.output(x, t))

        return float(loss(net, process, prediction, draws(0), torch.Generator().manual_seed(1)))

    best = value(lambda out: out)
    changes = [lambda out: 0.8 * out, lambda out: 1.2 * out, lambda out: -out]
    assert all(best < value(change) for change in changes)


@pytest.mark.parametrize("prediction", TYPES)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_the_loss_has_no_slope_at_the_exact_model(process: Process, prediction: str) -> None:
    exact = Gaussian(process, MEAN, COVARIANCE, prediction=prediction)
    slopes = []
    for seed in range(20):
        change = torch.zeros(3, requires_grad=True)

        def net(x: Tensor, t: Tensor, change: Tensor = change) -> Tensor:
            out = exact.output(x, t)
            return out + change[0] * out + change[1] * x + change[2]

        value = loss(net, process, prediction, draws(seed), torch.Generator().manual_seed(100 + seed))
        slopes.append(torch.autograd.grad(value, change)[0])
    mean, deviation = torch.stack(slopes).mean(0), torch.stack(slopes).std(0)
    assert (mean.abs() < 5 * deviation / 20**0.5).all()


@pytest.mark.parametrize("prediction", TYPES)
def test_the_target_is_the_true_value_also_where_almost_no_signal_is_left(prediction: str) -> None:
    class LateFlow(Flow):
        t_min = 1 - 1e-6

    x0, fed = torch.randn(50, 2), []

    def net(x: Tensor, t: Tensor) -> Tensor:
        fed.append(x)
        # At α ≈ 0, σ ≈ 1: ε = x, v = −x0 and the score is −ε.
        return {"epsilon": x, "sample": x0, "v_prediction": -x0, "score": -x, "flow": x - x0}[prediction]

    assert float(loss(net, LateFlow(), prediction, x0, torch.Generator().manual_seed(0))) < 1e-10


def test_times_are_uniform_over_the_range_and_stratified() -> None:
    times: list[Tensor] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        times.append(t)
        return x

    loss(net, Cosine(), "epsilon", torch.zeros(1000, 1), torch.Generator().manual_seed(0))
    share = (times[0].double() - Cosine.t_min) / (Cosine.t_max - Cosine.t_min) * 1000
    # float32 times may cross a border between two parts by rounding.
    assert ((share.sort().values - torch.arange(1000) - 0.5).abs() <= 0.5 + 1e-3).all()
    assert not torch.equal(share, share.sort().values)


def test_a_checkpoint_is_plain_data(straight: Trainer) -> None:
    state = torch.load(straight.checkpoint, weights_only=True)
    assert state["step"] == 8 and state["identity"]["process"] == VP().config()
    assert json.loads(json.dumps(state["identity"])) == state["identity"]
