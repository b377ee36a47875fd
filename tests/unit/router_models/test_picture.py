"""The picture of quality over cost is drawn from a manifest's held-out curves."""

import json

import pytest
from click.testing import CliRunner

from router_models.picture import STRONG_USD, WEAK_USD, Figures, Pooled, main, points

CURVE = [0.0, 0.8, 1.0]


def test_mixes_go_from_all_weak_to_all_strong():
    mixes = points(Figures(Pooled(10, 0.4, 0.6), {}), CURVE)
    assert [mix.quality for mix in mixes] == pytest.approx([0.4, 0.56, 0.6])
    assert [mix.usd_per_1000 for mix in mixes] == pytest.approx([WEAK_USD, (WEAK_USD + STRONG_USD) / 2, STRONG_USD])


def test_a_manifest_becomes_a_png(tmp_path):
    pooled = {"rows": 10, "weak": 0.4, "strong": 0.6}
    figures = {"pooled": pooled, "pooled_pgr": {"router": CURVE, "prompt length": [0.0, 0.5, 1.0]}}
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "mine", "figures": figures}))
    result = CliRunner().invoke(main, [str(tmp_path), str(tmp_path / "drawn.png")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")
