"""Dashboards drawn without a Grafana: every kind of panel, with data and without."""

import json
import sys

import pytest
from matplotlib.image import imread

from deploy.grafana import picture
from deploy.grafana.__main__ import BOARDS, FOLDER
from deploy.grafana.ask import Answer, Asker, AskError, Curve, Window
from deploy.grafana.paint import KINDS

NAMES = [board.name for board in BOARDS]


class Told(Asker):
    """Answers every query with two series, or with none."""

    is_empty = False

    def panel(self, panel):
        targets = panel["targets"]
        return [
            Answer(target["refId"], target["expr"], [] if self.is_empty else list(self._curves(panel, target)))
            for target in targets
        ]

    def _curves(self, panel, target):
        is_histogram = target.get("format") == "heatmap"
        label = "le" if is_histogram else "model"
        for place, name in enumerate(("0.1", "+Inf") if is_histogram else ("a", "b")):
            count = 1 if target.get("instant") else 20
            yield Curve({label: name}, [(1000.0 + at, float((at + place) % 3)) for at in range(count)], name)


class Silent(Told):
    is_empty = True


def one_of_each():
    """A dashboard of every kind of panel there is, two layers of curves among them."""
    panels, found = [one for name in NAMES for one in read(name)["panels"]], {}
    for panel in panels:
        stacking = panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {}).get("stacking", {}).get("mode")
        orientation = panel.get("options", {}).get("orientation")
        found.setdefault((panel["type"], stacking, orientation), panel)
    row, *rest = found.values()
    for place, panel in enumerate(rest):
        panel["gridPos"] = {"h": 8, "w": 8, "x": place % 3 * 8, "y": 1 + place // 3 * 8}
    return read("money") | {"panels": [row, *rest]}


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("kind", [Told, Silent])
def test_every_kind_of_panel_is_drawn_at_its_place(tmp_path, monkeypatch, kind):
    drawn, paint = [], picture.paint
    monkeypatch.setattr(picture, "paint", lambda shown: (drawn.append(shown), paint(shown)))
    dashboard = one_of_each()
    (tmp_path / "money.json").write_text(json.dumps(dashboard))
    monkeypatch.setattr(picture, "FOLDER", tmp_path)
    path = picture.save("money", kind("http://nowhere", Window(1000.0, 1020.0, 1.0)), tmp_path / "out")
    height, width = imread(path).shape[:2]
    units = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in dashboard["panels"])
    assert (width, height) == (picture.WIDTH_PX, picture.HEAD_PX + units * picture.UNIT_PX + 8)
    assert {one.panel["type"] for one in drawn} == set(KINDS)
    assert all(one.area.width == pytest.approx((picture.WIDTH_PX - 16) / 3) for one in drawn)


def test_every_kind_of_panel_that_is_used_can_be_drawn():
    used = {one["type"] for name in NAMES for one in read(name)["panels"]}
    assert used - {"row"} == set(KINDS)


def test_a_prometheus_that_refuses_is_told_in_one_line(monkeypatch, capsys, tmp_path):
    def refuse(self, panel):
        raise AskError("parse error")

    monkeypatch.setattr(Asker, "panel", refuse)
    monkeypatch.setattr(sys, "argv", ["picture", "--prometheus", "http://nowhere", "--out", str(tmp_path), "money"])
    assert picture.main() == 1
    assert capsys.readouterr().err == "http://nowhere: parse error\n"


def test_a_dashboard_that_is_not_there_is_refused_with_those_that_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["picture", "monney"])
    with pytest.raises(SystemExit):
        picture.main()
    assert "no such dashboard: monney; there are money, routing, service, upstreams" in capsys.readouterr().err
