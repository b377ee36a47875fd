"""`train` on little: what it writes serves and tells the run; where it fails, the old artifact stays."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.classify.features import FEATURE_NAMES, FEATURE_VERSION
from gateway.classify.onnx import SIGNALS, OnnxClassifier
from gateway.core.judgement import DOMAINS
from gateway.schema.conversation import Conversation, Turn
from router_models import artifact, export
from router_models import train as training
from router_models.artifact import DOMAIN_FLOOR
from router_models.commands.train import train as command
from router_models.corpus import Written
from router_models.data import Example, weigh
from router_models.evaluate import NoGapError, apgr
from router_models.heads import Recipe, tell_chances
from router_models.train import RECIPES, chance_held_out, gather, hold_out, merit, report_ranks

HARD, EASY = "Prove that 3 divides 9", "Who wrote Faust?"
FILES = ["MODEL_CARD.md", "manifest.json", "model.onnx"]


def ask(text):
    return Conversation((Turn("user", text),))


@pytest.fixture(scope="module")
def manifest(trained):
    return json.loads((trained.folder / "manifest.json").read_text())


def test_a_small_sample_gives_an_artifact_that_serves(trained):
    router = OnnxClassifier.load(trained.folder)
    hard, easy = router.judge(ask(HARD)), router.judge(ask(EASY))
    assert (router.name, easy.score + 0.1 < hard.score) == ("mine", True)
    assert hard.strong_chance > hard.weak_chance
    assert easy.weak_chance > hard.weak_chance
    assert 1 <= easy.output_tokens <= 16_384
    assert sorted(path.name for path in trained.folder.iterdir()) == FILES


def test_what_it_says_shows_each_recipe_beside_the_baselines(trained):
    figures = [line for line in trained.said if "APGR" in line]
    assert len(figures) == len(RECIPES)
    assert all("length" in line and "random 0.500" in line for line in figures)
    assert any(line.startswith("chosen: ") for line in trained.said)


def test_the_manifest_tells_the_run(manifest):
    assert (manifest["name"], manifest["seed"]) == ("mine", 11)
    assert (manifest["feature_version"], manifest["features"]) == (FEATURE_VERSION, len(FEATURE_NAMES))
    assert (tuple(manifest["domains"]), manifest["domain_floor"]) == (DOMAINS, DOMAIN_FLOOR)
    rows = {row["source"]: (row["rows"], row["written"]) for row in manifest["trained_on"]}
    assert rows == {"own": (120, False), "written": (32 * 4 + len(DOMAINS) * 4, True)}
    assert list(manifest["reference"]["signals"]) == list(SIGNALS)
    assert sum(manifest["reference"]["score"]["share"]) == pytest.approx(1, abs=1e-3)
    figures = manifest["figures"]
    assert set(figures["benches"]) == {"b0", "b1", "b2"}
    assert figures["recipes"].keys() == RECIPES.keys()
    assert figures["recipes"][manifest["model"]] == max(figures["recipes"].values())
    # 40 of b0 and 40 of b1 name a domain; every one is told by a head that had not seen it.
    assert figures["domain_accuracy"] > 0.9


def test_the_reference_is_that_of_what_the_router_says(trained, manifest, few_prompts):
    router = OnnxClassifier.load(trained.folder)
    lines = [json.loads(line) for line in (trained.folder.parent / "own.jsonl").read_text().splitlines()]
    prompts = [line["prompt"] for line in lines]
    prompts += [row.prompt for row in training.load_kinds(few_prompts)]
    scores = [router.judge(ask(prompt)).score for prompt in prompts]
    bins = manifest["reference"]["score"]
    places = np.searchsorted(bins["edges"], scores, side="right")
    found = np.bincount(places, minlength=len(bins["share"])) / len(scores)
    assert found == pytest.approx(bins["share"], abs=0.02)


def test_the_card_holds_the_figures(trained, manifest):
    card = (trained.folder / "MODEL_CARD.md").read_text()
    assert manifest["sha256"] in card
    assert "| own | 120 |" in card
    assert f"{manifest['figures']['domain_accuracy']:.1%} of measured prompts with a subject named right" in card
    assert "Domains without measured prompts: biology, business" in card
    lead = manifest["figures"]["over_length"]
    assert lead["low"] <= lead["apgr"] <= lead["high"]
    assert f"leads that of prompt length by {lead['apgr']:+.3f}, 95% [{lead['low']:+.3f}" in card


def test_the_same_seed_gives_the_same_bytes(trained, train_small, tmp_path):
    again = train_small(trained.folder.parent / "own.jsonl", tmp_path / "mine", 11)
    for name in FILES:
        assert (again / name).read_bytes() == (trained.folder / name).read_bytes()


def test_where_no_row_names_a_domain_its_accuracy_is_not_made_up(train_small, write_own, tmp_path):
    rows = [
        {"prompt": text + f" {number}?", "weak": weak, "strong": 0.9, "bench": f"b{number % 2}"}
        for number in range(20)
        for text, weak in (("Prove", 0.1), ("Who", 0.9))
    ]
    out = train_small(write_own(tmp_path / "own.jsonl", rows), tmp_path / "mine")
    assert json.loads((out / "manifest.json").read_text())["figures"]["domain_accuracy"] is None
    assert "Domain: not measured" in (out / "MODEL_CARD.md").read_text()
    OnnxClassifier.load(out)


# What is held out.


def rows_of(rng, families, rows, columns=6, *, leak=False):
    """Benches whose gaps are coins; with `leak`, a column tells each bench's coins, by another rule in each."""
    measured, read = [], rng.normal(size=(families * rows, columns))
    for family in range(families):
        for number in range(rows):
            gap = float(rng.random() < 0.5)
            measured.append(Example(f"p{number}", f"b{family}", "own", 0.0, gap, gap))
            if leak:
                read[len(measured) - 1, family] = 5 * gap
    return measured, read.astype(np.float32)


def long_read(read):
    """Put columns where the heads expect all measures."""
    return np.hstack([np.zeros((len(read), len(FEATURE_NAMES)), dtype=np.float32), read])


def test_a_bench_left_out_teaches_nothing_about_itself():
    # Each bench's labels stand in a column of its own: who saw the bench ranks it without fault, who did not can't.
    measured, read = rows_of(np.random.default_rng(0), 4, 100, leak=True)
    rows = gather(measured, [], long_read(read))
    recipe = Recipe(1.0)
    gap = rows.strong - rows.weak
    rank, chances = training.rank_rows(rows, np.ones(400, dtype=bool), recipe)
    seen = rank.apply(rows.read, tell_chances(chances, rows.read))
    held = hold_out(rows, {"plain": recipe})["plain"]
    for bench in range(4):
        of = rows.group == f"b{bench}"
        # A perfect ranking of fair coins has an APGR of about 0.75.
        assert apgr(seen[of], gap[of]) > 0.7
        assert apgr(held[of], gap[of]) == pytest.approx(0.5, abs=0.12)


def test_the_curve_of_a_bench_left_out_has_not_seen_it_either():
    wins = [1.0] * 50 + [0.0] * 50
    measured = [Example("p", f"b{int(win)}", "own", 0.0, win, win) for win in wins]
    rows = gather(measured, [], long_read(np.zeros((100, 1), dtype=np.float32)))
    chance = chance_held_out(np.zeros(100), rows)
    assert (chance[:50] < 0.01).all()
    assert (chance[50:] > 0.99).all()


def test_random_labels_cannot_be_ranked():
    measured, read = rows_of(np.random.default_rng(3), 5, 200)
    rows = gather(measured, [], long_read(read))
    rank = hold_out(rows, RECIPES)["ridge-100"]
    report = report_ranks(rows, rank, 1)
    assert report.pooled.gain.apgr == pytest.approx(0.5, abs=0.06)
    assert merit(report) == pytest.approx(0.5, abs=0.06)
    assert len(rank) == 1000


def test_benches_that_are_one_benchmark_are_held_out_together_and_so_is_a_kind():
    measured = [Example("p", bench, "llmrouter", 0.0, 1.0, 1.0) for bench in ("llmrouter/math", "zeroeval/math-l5")]
    measured += [Example("p", f"mmlu_pro/{name}", "mmlu_pro", 0.0, 1.0, 1.0) for name in ("law", "math")]
    written = [Written("p", kind, 0.1, 0.2, 5, "chat") for kind in ("sql", "facts")]
    read = np.zeros((6, 1), dtype=np.float32)
    assert gather(measured, written, read).group.tolist() == [
        "math", "math", "mmlu_pro", "mmlu_pro", "kinds 1", "kinds 0",
    ]  # fmt: skip
    assert gather(measured, written, read, by_family=False).group.tolist() == [
        "llmrouter/math", "zeroeval/math-l5", "mmlu_pro/law", "mmlu_pro/math", "kinds 1", "kinds 0",
    ]  # fmt: skip


# How rows weigh.


def test_families_weigh_by_the_square_root_of_their_size():
    examples = [Example("p", "large", "own", 0, 1, 1)] * 400 + [Example("p", "small", "own", 0, 1, 1)] * 100
    weights = np.array(weigh(examples))
    assert weights.mean() == pytest.approx(1)
    assert weights[:400].sum() / weights[400:].sum() == pytest.approx(2)


def test_written_prompts_weigh_as_much_as_all_measured_ones():
    measured = [Example("p", "a", "own", 0.2, 0.9, 0.7)] * 30
    written = [Written("p", "sql", 0.1, 0.2, 5, "code")] * 7
    rows = gather(measured, written, np.zeros((37, 1), dtype=np.float32))
    assert rows.weight[rows.is_measured].sum() == pytest.approx(30)
    assert rows.weight[~rows.is_measured].sum() == pytest.approx(30 * training.WRITTEN_SHARE)
    assert rows.win[-1] == pytest.approx((0.1 + 0.2 * 0.9) / 2)
    assert gather(measured, [], rows.read[:30]).weight == pytest.approx([1.0] * 30)


# Domains.


def test_domains_are_learned_from_subjects_and_a_cut_of_benches_of_one_domain():
    measured = [Example(f"q{number}", "llmrouter/gsm8k", "llmrouter", 0, 1, 1) for number in range(150)]
    measured += [Example("torts", "mmlu_pro/law", "mmlu_pro", 0, 1, 1, domain="law")]
    measured += [Example("odd", "own", "own", 0, 1, 1, domain="astrology")]
    written = [Written("w", "sql", 0.1, 0.2, 5, "code")]
    rows = gather(measured, written, np.zeros((153, 1), dtype=np.float32))
    pairs, is_measured = training._domain_rows(rows, [("lease", "law")])
    assert pairs[0] == ("torts", "law")
    assert is_measured.tolist() == [True] + [False] * (len(pairs) - 1)
    assert sum(domain == "math" for _, domain in pairs) == training.ROWS_A_BENCH
    assert pairs[1] == ("lease", "law")
    assert pairs[-1] == ("w", "code")
    assert "astrology" not in {domain for _, domain in pairs}


def test_only_measured_rows_count_for_domain_accuracy(word_table):
    space = training.fit_space(word_table, ["what is the", "how do you", "write a function"] * 10)
    named = [("what is the", "law"), ("write a function", "code")] * 6
    # A written row says otherwise of the same words; were it counted, it would be wrong.
    prompts = [*named, ("how do you", "chat"), ("how do you", "health")]
    texts = space.read([text for text, _ in prompts])
    names = [domain for _, domain in prompts]
    assert training._domain_accuracy(texts, names, np.arange(14) < 12) == 1.0
    assert training._domain_accuracy(texts, names, np.arange(14) >= 12) < 1.0
    assert math.isnan(training._domain_accuracy(texts, names, np.zeros(14, dtype=bool)))


def test_domain_accuracy_is_of_prompts_not_seen(word_table):
    words, rng = list(word_table.words[:60]), np.random.default_rng(5)
    texts = training.fit_space(word_table, words).read(words)
    names = [("law", "chat")[coin] for coin in rng.integers(0, 2, 60)]
    # A word each, named by a coin: who saw it knows, who did not can't.
    assert training._domain_accuracy(texts, names, np.ones(60, dtype=bool)) == pytest.approx(0.5, abs=0.2)


# What fails, and what is left then.


def refuse(*_):
    raise export.ExportError("it differs")


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.fixture
def old(tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    for name in FILES:
        (out / name).write_bytes(b"old")
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_ctrl_c_leaves_the_old_artifact(trained, train_small, old):
    with pytest.raises(KeyboardInterrupt):
        train_small(trained.folder.parent / "own.jsonl", old, progress=interrupt)
    assert contents(old) == dict.fromkeys(FILES, b"old")


def test_an_export_that_differs_is_refused_and_nothing_is_written(trained, train_small, old, monkeypatch):
    monkeypatch.setattr(export, "verify", refuse)
    with pytest.raises(export.ExportError):
        train_small(trained.folder.parent / "own.jsonl", old)
    assert contents(old) == dict.fromkeys(FILES, b"old")


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_an_interruption_of_the_writing_leaves_the_old_artifact_whole(old, monkeypatch, fails_at):
    written = []

    def write(path, data):
        written.append(path)
        if len(written) == fails_at:
            raise KeyboardInterrupt
        with path.open("wb") as file:
            return file.write(data)

    monkeypatch.setattr("pathlib.Path.write_bytes", write)
    with pytest.raises(KeyboardInterrupt):
        artifact.write_artifact(old, b"new", {"name": "new"}, "new")
    assert contents(old) == dict.fromkeys(FILES, b"old")


def test_one_bench_alone_is_refused_with_a_reason(write_own, tmp_path):
    rows = [{"prompt": "p", "weak": 0.1, "strong": 0.9, "bench": "one"}] * 3
    data = write_own(tmp_path / "d.jsonl", rows)
    found = CliRunner().invoke(command, ["--data", str(data), "--out", str(tmp_path / "o")])
    assert found.exit_code == 2
    assert "at least two values of `bench`" in found.stderr
    assert not (tmp_path / "o").exists()


def test_a_missing_file_is_a_message_not_a_traceback(tmp_path):
    found = CliRunner().invoke(command, ["--data", str(tmp_path / "none"), "--out", str(tmp_path / "o")])
    assert found.exit_code == 2
    assert "no such file" in found.stderr
    assert not (tmp_path / "o").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(write_own, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("router_models.commands.train.train_router", refuse)
    data = write_own(tmp_path / "own.jsonl")
    found = CliRunner().invoke(command, ["--data", str(data), "--out", str(tmp_path / "file" / "mine")])
    assert found.exit_code == 2
    assert "file can't be written to" in found.stderr


def test_what_the_disk_refuses_is_a_message_not_a_traceback(write_own, tmp_path, monkeypatch):
    monkeypatch.setattr("router_models.commands.train.train_router", fill_the_disk)
    data = write_own(tmp_path / "own.jsonl")
    found = CliRunner().invoke(command, ["--data", str(data), "--out", str(tmp_path / "mine")])
    assert (found.exit_code, found.stderr) == (2, "[Errno 28] No space left on device\n")


def fill_the_disk(*_, **__):
    raise OSError(28, "No space left on device")


def test_an_encoder_that_is_none_is_a_message_not_a_traceback(trained, tmp_path):
    data = trained.folder.parent / "own.jsonl"
    more = ["--out", str(tmp_path / "o"), "--encoder", str(tmp_path)]
    found = CliRunner().invoke(command, ["--data", str(data), *more])
    assert found.exit_code == 2
    assert "no sentence encoder" in found.stderr


def test_the_command_passes_on_what_it_is_given(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "router_models.commands.train.train_router", lambda *given, **named: asked.append((given[:3], named))
    )
    found = CliRunner().invoke(command, ["--data", "d.jsonl", "--out", str(tmp_path), "--encoder", "e", "--seed", "3"])
    assert (found.exit_code, f"written: {tmp_path}" in found.stderr) == (0, True)
    ((data, out, seed), named), *_ = asked
    assert (data.name, out, seed, named["words"].name) == ("d.jsonl", tmp_path, 3, "e")


def test_help_shows_an_example():
    assert "postern train --data" in CliRunner().invoke(command, ["--help"]).output


def test_without_labels_that_differ_there_is_nothing_to_route_for(train_small, write_own, tmp_path):
    rows = [{"prompt": f"p {n}", "weak": 0.5, "strong": 0.5, "bench": f"b{n % 2}"} for n in range(20)]
    with pytest.raises(NoGapError, match=r"nothing to route for"):
        train_small(write_own(tmp_path / "d.jsonl", rows), tmp_path / "o")
    assert not (tmp_path / "o").exists()
