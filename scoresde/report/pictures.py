"""Image grids of the report: a panel per curve, a row per NFE, the same seed in each column."""

from __future__ import annotations

import base64
import io
from xml.etree.ElementTree import Element

from PIL import Image
from torch import Tensor

from scoresde.bench.rows import Outcome
from scoresde.report import points
from scoresde.report.curves import Curve
from scoresde.report.markup import tag
from scoresde.report.quantities import count

LARGEST = 96  # pixels of an image's longer side in the report; larger ones are made smaller


def panels(outcome: Outcome, curves: list[Curve]) -> list[Element]:
    """The images' heading and, for each curve, its rows with the converged solution's below for comparison."""
    if outcome.points:
        return _points(outcome, curves)
    shown, _, *size = outcome.images.shape[1:]
    converged = {}
    for limits, images in zip(outcome.limits, outcome.images[len(outcome.rows) :], strict=True):
        told = f"converged solution, {count(limits.converged.nfe)} evaluations"
        converged[limits.converged.model] = _row("converged", images, told)
    made = []
    for number, curve in enumerate(curves):
        lines = []
        if outcome.labels:
            labels = [tag("span", str(label), title=str(label)) for label in outcome.labels]
            lines.append(tag("tr", tag("th", "class", scope="row"), tag("td", tag("div", *labels, class_="labels"))))
        for index in curve.rows:
            nfe = count(outcome.rows[index].nfe)
            lines.append(_row(nfe, outcome.images[index], f"{curve.label}, {nfe} evaluations"))
        lines.append(converged[outcome.rows[curve.rows[0]].model])
        heading = tag("h3", curve.label)
        made.append(tag("section", heading, tag("table", tag("tbody", *lines)), data_curve=number))
    smaller = f" Made smaller, from {size[1]} × {size[0]} pixels." if max(size) > LARGEST else ""
    explained = (
        f"The first {shown} seeds: the same in each column, everywhere. Rows are numbers of model evaluations; below "
        "them is the converged solution of the same seeds, which deterministic solvers approach. Solvers that draw "
        "noise go elsewhere."
    )
    return [tag("h2", "Images"), tag("p", explained + smaller), tag("div", *made, class_="panels")]


def _points(outcome: Outcome, curves: list[Curve]) -> list[Element]:
    made = []
    solved = {
        each.converged.model: seen
        for each, seen in zip(outcome.limits, outcome.images[len(outcome.rows) :], strict=True)
    }
    for number, curve in enumerate(curves):
        lines, converged = [], solved[outcome.rows[curve.rows[0]].model]
        for index in curve.rows:
            nfe, source = count(outcome.rows[index].nfe), _data(points.png(outcome.images[index], converged))
            picture = tag("img", src=source, alt=f"points: {curve.label}, {nfe} evaluations")
            lines.append(tag("tr", tag("th", nfe, scope="row"), tag("td", picture)))
        made.append(tag("section", tag("h3", curve.label), tag("table", tag("tbody", *lines)), data_curve=number))
    dim = outcome.images.shape[2]
    first = "" if dim <= 2 else f", the first two of their {dim} coordinates"
    explained = (
        f"The first {len(converged)} seeds{first}: in blue after so many model evaluations, in grey the converged "
        "solution of the same seeds. Solvers that draw noise go elsewhere, to points as likely."
    )
    return [tag("h2", "Points"), tag("p", explained), tag("div", *made, class_="panels")]


def _row(heading: str, images: Tensor, described: str) -> Element:
    picture = tag("img", src=_uri(images), alt=f"{len(images)} samples: {described}")
    kind = "converged" if heading == "converged" else None
    return tag("tr", tag("th", heading, scope="row"), tag("td", picture), class_=kind)


def _uri(images: Tensor) -> str:
    """Images side by side as a PNG in a data URI, from uint8 of shape (n, channels, height, width)."""
    strip = images.permute(2, 0, 3, 1).flatten(1, 2).squeeze(-1).numpy()
    picture = Image.fromarray(strip)
    if (largest := max(images.shape[2:])) > LARGEST:
        factor = LARGEST / largest
        width, height = round(images.shape[3] * factor) * len(images), round(images.shape[2] * factor)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return _data(file.getvalue())


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
