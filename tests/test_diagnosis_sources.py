"""What files hold: every format by a tiny sample of it, every kind of malformed line, and that nothing is dropped."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import math
import os
import random
import struct
import threading

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refrm import Adam, MLPRewardModel, make_pairs, stack_pairs
from refrm.diagnosis import blocks, columnar, text
from refrm.diagnosis.data import Log
from refrm.diagnosis.sources import Opened
from refrm.errors import FileError, InputError

ROLES = ("r_w", "r_l", "margin", "step", "group", "length_w", "length_l", "subset")


def read(*files, **options):
    """Return the arrays of all chunks, one after the other, with what else is known of a source."""
    with Opened(files, **options) as source:
        if isinstance(source, Log):
            return source
        every = list(source.chunks())
        again = list(source.chunks())
        found = {}
        for role in ROLES:
            parts = [getattr(chunk, role) for chunk in every]
            assert all(part is None for part in parts) or all(part is not None for part in parts)
            if parts[0] is not None:
                found[role] = np.concatenate(parts)
                assert len(found[role]) == sum(len(chunk.r_w) for chunk in every)
                np.testing.assert_array_equal(np.concatenate([getattr(chunk, role) for chunk in again]), found[role])
        found["names"], found["problems"], found["notes"] = source.names, source.problems, source.notes
        return found


def lines_of(found):
    return [problem.line for problem in found["problems"].shown]


def write_lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def same(found, w, v, **others):
    for role, expected in {"r_w": w, "r_l": v, **others}.items():
        np.testing.assert_array_equal(found[role], expected)
    assert found["r_w"].dtype == found["r_l"].dtype == np.float64


# Formats, recognised by their keys


def test_rewardbench_outputs(tmp_path):
    row = {"prompt": "p", "results": 1, "scores_chosen": 2.5, "scores_rejected": -1}
    texts = {"text_chosen": "abc", "text_rejected": [{"role": "user", "content": "é"}, {"content": "12"}]}
    file = write_lines(tmp_path / "m_outputs.jsonl", row | texts, row | {"prompt": "q"} | texts, row | texts)
    found = read(file)
    same(found, [2.5] * 3, [-1] * 3, length_w=[3] * 3, length_l=[3] * 3)
    assert found["group"][0] == found["group"][2] != found["group"][1]


def test_rewardbench_all(tmp_path):
    rows = {"chosen": [1.5], "rejected": [0]}, {"chosen": 2.5, "rejected": [[1]]}, {"chosen": [], "rejected": [1]}
    found = read(write_lines(tmp_path / "m_all.jsonl", *rows))
    same(found, [1.5, 2.5], [0, 1])
    assert lines_of(found) == [3]


@pytest.mark.parametrize("shape", [json.dumps, lambda of: json.dumps(of, indent=1)])
def test_rewardbench_eval_set_scores(tmp_path, shape):
    columns = {
        "text_chosen": ["abc", "d", "e"],
        "text_rejected": ["f", "", "g"],
        "id": [1, 2, 3],
        "subset": ["hep-python", "donotanswer", "hep-python"],
        "results": [1, 0, 1],
        "scores_chosen": [[1.0], [[2.0]], None],
        "scores_rejected": [0.5, [3], 1],
        "model": "m",
        "model_type": "x",
    }
    (tmp_path / "m.json").write_text(shape(columns))
    found = read(tmp_path / "m.json")
    same(found, [1, 2], [0.5, 3], length_w=[3, 1], length_l=[1, 0], subset=[0, 1])
    assert found["names"] == ("hep-python", "donotanswer")
    assert found["problems"].count == 1 and lines_of(found) == [3]
    assert found["problems"].shown[0].expected == "a number in 'scores_chosen', which is empty"


def test_rewardbench_2_takes_correct_against_incorrect(tmp_path):
    columns = {"id": ["a", "b"], "subset": ["Math", "Ties"], "num_correct": [1, 2], "model": "m"}
    columns["scores"] = [[[1.0], [0.5], [0.25], [2.0]], [3, 4, 5]]
    (tmp_path / "m.json").write_text(json.dumps(columns))
    found = read(tmp_path / "m.json")
    same(found, [1, 1, 1, 3, 4], [0.5, 0.25, 2, 5, 5], subset=[0, 0, 0, 1, 1])
    assert len(set(found["group"][:3])) == len(set(found["group"][3:])) == 1 != len(set(found["group"]))
    rows = [{"scores": [1, 2], "num_correct": n} for n in (1, 0, 2, True, None)]
    found = read(write_lines(tmp_path / "rows.jsonl", *rows, {"scores": [1, None], "num_correct": 1}, rows[0]))
    same(found, [1, 1], [2, 2])
    assert lines_of(found) == [2, 3, 4, 5, 6] and len(set(found["group"])) == 2
    pl.DataFrame({"scores": [[1.0, 2.0, 3.0]], "num_correct": [1]}).write_parquet(tmp_path / "m.parquet")
    same(read(tmp_path / "m.parquet"), [1, 1], [2, 3])


@pytest.mark.parametrize("names", [("chosen", "rejected"), ("accept", "reject")])
def test_llama_factory(tmp_path, names):
    rows = [dict(zip(names, pair, strict=True)) for pair in ((1.25, -0.5), (2, 3))]
    same(read(write_lines(tmp_path / "generated_predictions.jsonl", *rows)), [1.25, 2], [-0.5, 3])


def test_openrlhf(tmp_path):
    row = {"prompt": "p", "chosen": "long", "chosen_reward": 1.5, "rejected": "s", "rejected_reward": 0.5}
    found = read(write_lines(tmp_path / "x.jsonl", row, row | {"prompt": "q"}))
    same(found, [1.5] * 2, [0.5] * 2, length_w=[4] * 2, length_l=[1] * 2)
    assert len(set(found["group"])) == 2


def test_summarize_from_feedback(tmp_path):
    (tmp_path / "x.csv").write_text('chosen_rewards,rejected_rewards,post\n1.5,0.5,"a, ""b""\nc"\n2,3,\n')
    same(read(tmp_path / "x.csv"), [1.5, 2], [0.5, 3])


def test_the_scores_of_refrm(tmp_path):
    np.savez(tmp_path / "x.npz", chosen=np.float32([1.5, 2]), rejected=np.array([3, 4]), other=np.ones((5, 2)))
    same(read(tmp_path / "x.npz"), [1.5, 2], [3, 4])
    (tmp_path / "x.csv").write_text("array,index,score\nrejected,1,4\nchosen,0,1.5\nrejected,0,3.0\nchosen,1,2.0\n")
    same(read(tmp_path / "x.csv"), [1.5, 2], [3, 4])
    write_lines(tmp_path / "y.csv", "array,index,score", "a,0,1", "b,0,2", "a,1,x", "b,1,3", "c,0,9", "a,2,")
    found = read(tmp_path / "y.csv", named={"r_w": "a", "r_l": "b"})
    same(found, [1], [2])
    assert lines_of(found) == [4, 7]


def test_columns_of_every_role(tmp_path):
    row = {"good": 1, "bad": 2, "m": 0.5, "t": 3, "p": 7, "a": 10, "b": 20, "part": "x"}
    named = {"r_w": "good", "r_l": "bad", "margin": "m", "step": "t", "group": "p", "length_w": "a", "length_l": "b"}
    for found in (
        read(write_lines(tmp_path / "x.jsonl", row), named=named | {"subset": "part"}),
        read(
            write_lines(tmp_path / "y.jsonl", dict(zip((*ROLES,), (1, 2, 0.5, 3, 7, 10, 20, "x"), strict=True))),
        ),
    ):
        same(found, [1], [2], margin=[0.5], step=[3], length_w=[10], length_l=[20], subset=[0])
        assert found["names"] == ("x",) and len(found["group"]) == 1


def test_a_margin_that_is_the_difference_of_scores_is_none_of_the_loss(tmp_path):
    rows = [{"chosen": w, "rejected": v, "margin": round(w - v, 2)} for w, v in ((1.234, 0.5), (2, -0.111), (0, 1))]
    found = read(write_lines(tmp_path / "x.jsonl", *rows))
    assert "margin" not in found and "left aside" in found["notes"][0]
    assert "margin" in read(tmp_path / "x.jsonl", named={"margin": "margin"})
    rows[1]["margin"] = 1
    assert "margin" in read(write_lines(tmp_path / "x.jsonl", *rows))


# Training logs


def test_trainer_state_of_trl(tmp_path):
    history = [
        {
            "loss": 0.7,
            "mean_reward": 0.1,
            "min_reward": -1,
            "max_reward": 2,
            "margin": 0.2,
            "accuracy": 0.5,
            "step": 10,
        },
        {"eval_loss": 0.69, "eval_mean_reward": 0.3, "eval_margin": 0.4, "eval_accuracy": 0.6, "step": 10, "epoch": 1},
        {"loss": math.nan, "grad_norm": math.inf, "mean_reward": 1.0, "step": 20},
        {"train_loss": 0.5, "train_runtime": 3.0, "step": 20},
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history, "global_step": 20}, indent=2))
    log = read(tmp_path / "trainer_state.json")
    assert log.framework == "trl" and log.step.tolist() == [10, 20] and log.nonfinite == {"loss": 1, "grad_norm": 1}
    expected = {
        "loss": [0.7, math.nan],
        "mean_score": [0.1, 1],
        "min_score": [-1, math.nan],
        "max_score": [2, math.nan],
        "mean_margin": [0.2, math.nan],
        "accuracy": [0.5, math.nan],
        "grad_norm": [math.nan] * 2,
        "heldout_loss": [0.69, math.nan],
        "heldout_mean_score": [0.3, math.nan],
        "heldout_mean_margin": [0.4, math.nan],
        "heldout_accuracy": [0.6, math.nan],
    }
    assert set(log.series) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(log.series[name], values)


def test_logging_of_ms_swift(tmp_path):
    row = {"loss": "0.6", "rewards/chosen": 1, "rewards/rejected": 0.5, "rewards/margins": 0.5, "rewards/accuracies": 1}
    rows = [
        row | {"center_rewards_loss": 0.01, "global_step/max_steps": "1/5", "train_speed(iter/s)": 0.1},
        {"eval_rewards/chosen": 2, "global_step/max_steps": "5/5"},
        "{broken",
        {"last_model_checkpoint": "x", "log_history": []},
    ]
    log = read(write_lines(tmp_path / "logging.jsonl", *rows))
    assert log.framework == "ms-swift" and log.step.tolist() == [1, 5]
    first = {name: values[0] for name, values in log.series.items() if not math.isnan(values[0])}
    assert first == {
        "loss": 0.6,
        "mean_chosen": 1,
        "mean_rejected": 0.5,
        "mean_margin": 0.5,
        "accuracy": 1,
        "penalty": 0.01,
    }
    assert log.series["heldout_mean_chosen"][1] == 2
    assert log.problems.count == 1 and log.problems.shown[0].line == 3


def test_trainer_log_of_llama_factory(tmp_path):
    rows = [{"current_steps": n, "total_steps": 9, "loss": 1 / n, "lr": 1e-5, "percentage": 1} for n in (2, 4)]
    log = read(write_lines(tmp_path / "trainer_log.jsonl", *rows, {"current_steps": 4, "eval_loss": 0.5}))
    assert log.framework == "llama-factory" and log.step.tolist() == [2, 4]
    assert log.series["loss"].tolist() == [0.5, 0.25] and log.series["heldout_loss"][1] == 0.5


@pytest.mark.parametrize("word", ["rejected", "reject"])
def test_what_deepspeed_chat_prints(tmp_path, word):
    def printed(w, v, a):
        names = (
            "chosen_last_scores (higher is better)",
            f"{word}_last_scores (lower is better)",
            "acc (higher is better)",
        )
        return ", ".join(f"{name} : {value}" for name, value in zip(names, (w, v, a), strict=True))

    lines = [
        "***** Running training *****",
        printed(1.5, -0.5, 0.4),
        "{'x': 1}",
        "[Rank 0] step=100, skipped=0, lr=[1]",
    ]
    log = read(write_lines(tmp_path / "out", *lines, printed(2.5, "nan", 0.75)))
    assert (
        log.framework == "deepspeed-chat"
        and log.step.tolist() == [0, 100]
        and log.nonfinite == {"heldout_mean_rejected": 1}
    )
    np.testing.assert_array_equal(log.series["heldout_mean_chosen"], [1.5, 2.5])
    np.testing.assert_array_equal(log.series["heldout_mean_rejected"], [-0.5, math.nan])
    np.testing.assert_array_equal(log.series["heldout_accuracy"], [0.4, 0.75])
    log = read(write_lines(tmp_path / "out", printed(1, 2, 3), printed(1, 2, 3)), form="stdout")
    assert log.step.tolist() == [0, 1]


def test_the_log_of_a_fit_of_refrm(tmp_path):
    pairs = make_pairs(40, 3)
    fit = MLPRewardModel(solver=Adam(steps=20), backend="numpy")
    X = stack_pairs(pairs.chosen, pairs.rejected)
    history = fit.fit(X[:30], heldout=X[30:], record_every=10).result_.history
    log = read(write_lines(tmp_path / "model.fit.jsonl", *history))
    assert log.framework == "refrm" and log.step.tolist() == [0, 10, 20]
    for key in set(history[0]) - {"step"}:
        np.testing.assert_array_equal(log.series[key], [record[key] for record in history])


def test_other_logs_by_prefix_and_several_files_of_one_run(tmp_path):
    rows = [{"step": n, "train/chosen_reward": n, "eval/rewards_rejected_mean": -n, "train/acc": 1} for n in (1, 2)]
    first, second = write_lines(tmp_path / "a.jsonl", *rows), tmp_path / "b.csv"
    second.write_text("_step,train/chosen_reward,epoch\n2,5,1\n3,6,1\n")
    log = read(first, second)
    assert log.step.tolist() == [1, 2, 3] and log.series["mean_chosen"].tolist() == [1, 5, 6]
    assert log.series["heldout_mean_rejected"][:2].tolist() == [-1, -2] and log.framework == ""
    pairs = write_lines(tmp_path / "p.jsonl", {"chosen": 1, "rejected": 2})
    with pytest.raises(InputError, match=r"p\.jsonl holds pairs, but .*a\.jsonl is a training log"):
        read(first, pairs)


# The same pairs through every format


def zstd(data):
    """A frame of zstandard with blocks that are stored as they are."""
    parts = [data[i : i + 1000] for i in range(0, len(data), 1000)] or [b""]
    heads = [struct.pack("<I", (len(part) << 3) | (part is parts[-1]))[:3] for part in parts]
    body = b"".join(head + part for head, part in zip(heads, parts, strict=True))
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + body


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows, separator=",", end="\n"):
    cells = [
        [f'"{cell}"' if isinstance(cell, str) else "" if cell is None else repr(cell) for cell in row.values()]
        for row in rows
    ]
    return end.join(separator.join(line) for line in [list(rows[0]), *cells]).encode()


def as_frame(rows, write):
    buffer = io.BytesIO()
    getattr(
        pl.DataFrame(rows, {"scores_chosen": pl.Float64, "scores_rejected": pl.Float64, "prompt": pl.String}), write
    )(buffer)
    return buffer.getvalue()


def as_npz(rows):
    buffer = io.BytesIO()
    np.savez(buffer, **{key: np.array([math.nan if row[key] is None else row[key] for row in rows]) for key in rows[0]})
    return buffer.getvalue()


WRITERS = {
    "x.jsonl": as_jsonl,
    "x": as_jsonl,
    "crlf.jsonl": lambda rows: as_jsonl(rows).replace(b"\n", b"\r\n"),
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf" + as_jsonl(rows),
    "blank.jsonl": lambda rows: b"\n" + as_jsonl(rows).replace(b"\n", b"\n  \n"),
    "x.jsonl.gz": lambda rows: gzip.compress(as_jsonl(rows)),
    "x.jsonl.bz2": lambda rows: bz2.compress(as_jsonl(rows)),
    "x.jsonl.xz": lambda rows: lzma.compress(as_jsonl(rows)),
    "x.jsonl.zst": lambda rows: zstd(as_jsonl(rows)),
    "rows.json": lambda rows: json.dumps(rows).encode(),
    "columns.json": lambda rows: json.dumps({key: [row[key] for row in rows] for key in rows[0]}).encode(),
    "pandas.json": lambda rows: json.dumps(
        {k: {str(i): row[k] for i, row in enumerate(rows)} for k in rows[0]}
    ).encode(),
    "x.csv": as_csv,
    "crlf.csv": lambda rows: b"\xef\xbb\xbf" + as_csv(rows, end="\r\n") + b"\r\n\r\n",
    "semicolon.csv": lambda rows: as_csv(rows, ";"),
    "x.tsv": lambda rows: as_csv(rows, "\t"),
    "x.csv.gz": lambda rows: gzip.compress(as_csv(rows)),
    "x.csv.zst": lambda rows: zstd(as_csv(rows)),
    "x.parquet": lambda rows: as_frame(rows, "write_parquet"),
    "x.arrow": lambda rows: as_frame(rows, "write_ipc"),
    "stream.arrow": lambda rows: as_frame(rows, "write_ipc_stream"),
    "x.npz": as_npz,
}
FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(st.tuples(FLOATS, FLOATS | st.integers(-(10**30), 10**30).map(float), st.sampled_from("abc")), min_size=1),
    st.data(),
)
def test_the_same_pairs_through_every_format(tmp_path_factory, pairs, data):
    rows = [{"scores_chosen": w, "scores_rejected": v, "prompt": p} for w, v, p in pairs]
    place = tmp_path_factory.mktemp("formats")
    first = {p: prompt for prompt, p in enumerate(dict.fromkeys(p for _, _, p in pairs))}
    for name in data.draw(st.lists(st.sampled_from(sorted(WRITERS)), min_size=4, max_size=4, unique=True)):
        (place / name).write_bytes(WRITERS[name](rows))
        found = read(place / name)
        same(found, [w for w, _, _ in pairs], [v for _, v, _ in pairs])
        codes = {code: i for i, code in enumerate(dict.fromkeys(found["group"].tolist()))}
        assert [codes[code] for code in found["group"].tolist()] == [first[p] for _, _, p in pairs]
        assert found["problems"].count == 0


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"x.npz"}))
def test_missing_scores_through_every_format(tmp_path, name):
    rows = [{"scores_chosen": None if i % 3 == 1 else i / 7, "scores_rejected": 0.5, "prompt": "p"} for i in range(60)]
    (tmp_path / name).write_bytes(WRITERS[name](rows))
    found = read(tmp_path / name)
    same(found, [i / 7 for i in range(60) if i % 3 != 1], [0.5] * 40)
    assert found["problems"].count == 20 and len(found["problems"].shown) == 10
    assert found["problems"].shown[0].expected == "a number in 'scores_chosen', which is empty"


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
@pytest.mark.parametrize("quoted", [False, True])
def test_blocks_and_pieces_of_any_size_give_the_same_pairs_and_lines(tmp_path, monkeypatch, name, quoted):
    texts = ["plain", 'a ""b""\n\nc' if name == "x.csv" else "a\n"] if quoted else ["plain"]
    rows = [{"chosen": i / 3, "rejected": -i, "prompt": texts[i % len(texts)]} for i in range(400)]
    for i in (7, 8, 200, 399):
        rows[i]["chosen"] = "x"
    (tmp_path / name).write_bytes(WRITERS[name](rows))
    expected = None
    rng = random.Random(0)
    for _ in range(12):
        found = read(tmp_path / name, max_bad=0.5)
        expected = expected or found
        order, other = np.argsort(found["r_w"]), np.argsort(expected["r_w"])
        same(
            {role: found[role][order] for role in ("r_w", "r_l", "group")},
            *(expected[r][other] for r in ("r_w", "r_l")),
        )
        assert found["problems"] == expected["problems"] and found["problems"].count == 4
        monkeypatch.setattr(blocks, "BLOCK", rng.randrange(20, 3000))
        monkeypatch.setattr(text, "PIECE", rng.randrange(1, 500))
    assert len(expected["r_w"]) == 396


def test_slices_of_any_size_give_the_same_pairs(tmp_path, monkeypatch):
    frame = pl.DataFrame({"chosen": [None if i % 50 == 3 else i / 3 for i in range(500)], "rejected": range(500)})
    frame = frame.with_columns(text_chosen=pl.lit("abc"), text_rejected=pl.lit(None, pl.String), prompt_id=pl.lit(5))
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=70)
    for size in (1, 7, 499, 500, 501):
        monkeypatch.setattr(columnar, "SLICE", size)
        monkeypatch.setattr(columnar, "WITH_TEXTS", size)
        found = read(tmp_path / "x.parquet")
        same(found, [i / 3 for i in range(500) if i % 50 != 3], [i for i in range(500) if i % 50 != 3])
        assert lines_of(found) == [i + 1 for i in range(500) if i % 50 == 3]
        assert set(found["length_w"]) == {3} and np.isnan(found["length_l"]).all() and set(found["group"]) == {5}


def test_types_of_columns(tmp_path):
    messages = [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "é"}]
    frame = pl.DataFrame(
        {
            "chosen": pl.Series([1, 2], dtype=pl.UInt64),
            "rejected": pl.Series([[0.5], [1.5]], dtype=pl.List(pl.Float32)),
            "text_chosen": [messages, messages[:1]],
            "text_rejected": [messages, messages[:1]],
            "subset": pl.Series(["b", "a"], dtype=pl.Categorical),
            "prompt": [messages, messages],
        }
    )
    frame.write_parquet(tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    same(found, [1, 2], [0.5, 1.5], length_w=[4, 3], length_l=[4, 3], subset=[0, 1])
    assert found["names"] == ("b", "a") and found["group"][0] == found["group"][1]
    frame.select("chosen", pl.col("rejected").list.first(), "subset", prompt=pl.Series([3, None])).write_ipc(
        tmp_path / "x.arrow"
    )
    found = read(tmp_path / "x.arrow")
    same(found, [1, 2], [0.5, 1.5], subset=[0, 1])
    assert len(set(found["group"])) == 2


# Malformed lines: each is counted, and says where it is and what was expected

MALFORMED_JSON = {
    '{"chosen": 1, "rejected": 2': "JSON, but at character 28",
    '{"chosen": 1, "rejected": 2} x': "Extra data",
    '{"chosen": 1, "rejected": 2}{"chosen": 1, "rejected": 2}': "Extra data",
    "{'chosen': 1, 'rejected': 2}": "JSON, but",
    "oops": "JSON, but",
    "[1, 2]": "a JSON object, got [1, 2]",
    "null": "a JSON object, got None",
    '{"chosen": 1}': "'rejected', which is not there; there are chosen",
    '{"chosen": true, "rejected": 2}': "a number in 'chosen', got True",
    '{"chosen": "x", "rejected": 2}': "a number in 'chosen', got 'x'",
    '{"chosen": {"a": 1}, "rejected": 2}': "a number in 'chosen', got {'a': 1}",
    '{"chosen": [1, 2], "rejected": 2}': "a number in 'chosen', got [1, 2]",
    '{"chosen": 1' + "0" * 400 + ', "rejected": 2}': "within the range of float64",
    '{"chosen": 1' + "0" * 5000 + ', "rejected": 2}': "fewer than 4,300 digits",
    "[" * 100_000: "not nested deeply",
    '{"chosen": 1, "rejected": 2}\0': "JSON, but",
    "\0" * 30: "JSON, but",
    '{"chosen": 1, "rejected": 01}': "JSON, but",
}


@pytest.mark.parametrize("line", MALFORMED_JSON, ids=range(len(MALFORMED_JSON)))
def test_malformed_json_lines(tmp_path, line):
    good = '{"chosen": 1, "rejected": 2}'
    found = read(write_lines(tmp_path / "x.jsonl", good, good, line, "", good))
    same(found, [1] * 3, [2] * 3)
    assert found["problems"].count == 1 and lines_of(found) == [3]
    assert MALFORMED_JSON[line] in found["problems"].shown[0].expected
    assert len(found["problems"].shown[0].expected) < 200 and "\n" not in found["problems"].shown[0].expected


def test_bytes_that_are_no_text(tmp_path):
    good = b'{"chosen": 1, "rejected": 2}\n'
    (tmp_path / "x.jsonl").write_bytes(good + b'{"chosen": 1, "rejected": 2, "t": "\xff"}\n' + good)
    (tmp_path / "x.csv").write_bytes(b"chosen,rejected,t\n1,2,a\n1,2,\xff\n1,2,b\n")
    for name, line in (("x.jsonl", 2), ("x.csv", 3)):
        found = read(tmp_path / name)
        same(found, [1, 1], [2, 2])
        assert lines_of(found) == [line] and "UTF-8" in found["problems"].shown[0].expected
    for encoding in ("utf-16", "utf-16-be"):
        (tmp_path / "y.csv").write_bytes("\ufeffchosen,rejected\n1,2\n".encode(encoding))
        with pytest.raises(FileError, match="UTF-16; expected UTF-8"):
            read(tmp_path / "y.csv")


MALFORMED_CSV = {
    "1,x,t": "a number in 'rejected', got 'x'",
    "1,0x10,t": "a number in 'rejected'",
    "1,1_0,t": "a number in 'rejected'",
    "1,true,t": "a number in 'rejected'",
    "1,1.5.2,t": "a number in 'rejected'",
    "1,\0002,t": "a number in 'rejected'",
    "1": "3 fields, got 1",
    "1,2": "3 fields, got 2",
    "1,2,t,3": "3 fields, got 4",
    '1,2,"t': "",  # a closing quote; or else the next one is in the wrong place
    '1,2,"a" b': "fields as CSV has them",
    "1;2;t": "3 fields, got 1",
}


@pytest.mark.parametrize("line", MALFORMED_CSV, ids=range(len(MALFORMED_CSV)))
@pytest.mark.parametrize("good", ["1,2,t", '1,2,"t"', '1,2,"t\n\nu"', '1,2,5" u'])
def test_malformed_lines_of_csv(tmp_path, line, good):
    found = read(write_lines(tmp_path / "x.csv", "chosen,rejected,t", good, line, "", ",,", good, good))
    same(found, [1] * 3, [2] * 3)
    at = 3 + good.count("\n")
    assert found["problems"].count == 1 and lines_of(found) == [at]
    assert MALFORMED_CSV[line] in found["problems"].shown[0].expected


def test_unusual_but_right_numbers(tmp_path):
    words = [
        " 1 ",
        "+2",
        "1e400",
        "-inf",
        "nan",
        "Infinity",
        '"3"',
        ".5",
        "5.",
        "1E-3",
        "123456789012345678901234567890",
    ]
    expected = [1, 2, math.inf, -math.inf, math.nan, math.inf, 3, 0.5, 5, 1e-3, 123456789012345678901234567890]
    found = read(write_lines(tmp_path / "x.csv", "chosen,rejected", *(f"{word},0" for word in words)))
    assert sorted(map(repr, found["r_w"].tolist())) == sorted(repr(float(x)) for x in expected)
    assert found["problems"].count == 0
    lines = ['{"chosen": "1.5", "rejected": NaN}', '{"chosen": 1e999, "rejected": 1' + "0" * 200 + "}"]
    same(read(write_lines(tmp_path / "x.jsonl", *lines)), [1.5, math.inf], [math.nan, 1e200])


def test_words_for_missing(tmp_path):
    found = read(
        write_lines(tmp_path / "x.csv", "chosen,rejected", "1,2", *(f"{w},2" for w in ("", "NA", "null", "None")))
    )
    same(found, [1], [2])
    assert lines_of(found) == [3, 4, 5, 6]
    assert {p.expected for p in found["problems"].shown} == {"a number in 'chosen', which is empty"}


def test_margins_and_steps_must_be_there_and_finite(tmp_path):
    row = {"chosen": 1, "rejected": 2, "margin": 0.5, "step": 3}
    wrong = [row | {"margin": None}, row | {"margin": math.nan}, row | {"step": math.inf}, {"chosen": 1, "rejected": 2}]
    found = read(write_lines(tmp_path / "x.jsonl", row, *wrong, row))
    same(found, [1, 1], [2, 2], margin=[0.5, 0.5], step=[3, 3])
    assert lines_of(found) == [2, 3, 4, 5]
    pl.DataFrame([row, *wrong]).write_parquet(tmp_path / "x.parquet")
    assert lines_of(read(tmp_path / "x.parquet")) == [2, 3, 4, 5]


def test_absent_ids_and_texts_are_no_problem(tmp_path):
    row = {"chosen_reward": 1, "rejected_reward": 2, "prompt": "p", "subset": "x", "chosen": "a", "rejected": "bc"}
    found = read(
        write_lines(tmp_path / "x.jsonl", row, {"chosen_reward": 1, "rejected_reward": 2}, row | {"prompt": None}, row)
    )
    same(found, [1] * 4, [2] * 4, length_w=[1, math.nan, 1, 1], subset=[0, 1, 0, 0])
    assert found["names"] == ("x", "(none)") and found["problems"].count == 0
    assert len(set(found["group"])) == 3 and found["group"][0] == found["group"][3]


def test_too_much_that_is_malformed_stops_the_run(tmp_path):
    good, bad = ["1,2"] * 900, ["1,x"] * 10
    file = write_lines(tmp_path / "x.csv", "chosen,rejected", *good, *bad)
    expected = (
        r"x\.csv: 10 of 910 rows are malformed, more than 0\.01 of them \(--max-bad\); line 902: expected a number"
    )
    with pytest.raises(FileError, match=expected):
        read(file)
    assert read(file, max_bad=0.02)["problems"].count == 10
    assert read(write_lines(file, "chosen,rejected", *good, *bad[1:]))["problems"].count == 9
    assert read(write_lines(file, "chosen,rejected", *good, "1,", *["1,"] * 100))["problems"].count == 101
    with pytest.raises(
        FileError, match=r"x\.csv has no pair of scores; line 2: expected a number in 'rejected', which"
    ):
        read(write_lines(file, "chosen,rejected", "1,", "1,"))


def test_a_stray_quote_costs_one_line_and_little_time(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "QUOTED", 2000)
    monkeypatch.setattr(blocks, "BLOCK", 5000)
    lines = [f'{i},{-i},"t"' for i in range(5000)]
    lines[10] = '10,-10,"t'
    found = read(write_lines(tmp_path / "x.csv", "chosen,rejected,t", *lines))
    assert found["problems"].count == 1 and lines_of(found) == [12]
    assert sorted(found["r_w"]) == [i for i in range(5000) if i != 10]


# Files that cannot be read at all


def refused(file, *words, **options):
    with pytest.raises((FileError, InputError)) as caught:
        read(file, **options)
    message = str(caught.value)
    assert "\n" not in message.strip() and len(message) < 500
    for word in words:
        assert word in message, message


def test_files_that_are_not_there_or_empty(tmp_path):
    refused(tmp_path / "x.jsonl", "x.jsonl does not exist")
    refused(tmp_path, "is a directory", "trainer_state.json")
    for name in ("x.jsonl", "x.json", "x.csv", "x.parquet", "x.arrow", "x.npz", "x"):
        (tmp_path / name).write_bytes(b"")
        refused(tmp_path / name, f"{name} is empty")
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b""))
    refused(tmp_path / "x.jsonl.gz", "x.jsonl.gz")
    for name in ("x.jsonl", "x.csv"):
        (tmp_path / name).write_bytes(b"\n \n\n")
        refused(tmp_path / name, name)
    for name, words in {
        "x.json": "[]",
        "y.json": "{}",
        "z.json": "3",
        "w.json": '{"chosen": [], "rejected": []}',
    }.items():
        (tmp_path / name).write_text(words)
        refused(tmp_path / name, name)
    pl.DataFrame({"chosen": [], "rejected": []}).write_parquet(tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "has no rows")
    refused(write_lines(tmp_path / "x.csv", "chosen,rejected"), "x.csv has no pair of scores")
    with pytest.raises(InputError, match="a file is named twice"):
        read(tmp_path / "x.csv", tmp_path / "x.csv")


def test_columns_that_are_not_there(tmp_path):
    file = write_lines(tmp_path / "x.jsonl", {"good": 1, "bad": 2, "word": "abc", "\x1b[1m": 1})
    refused(file, "has the keys good, bad, word, '\\x1b[1m'", "--chosen and --rejected")
    refused(file, "--chosen: ", "has no column 'goood'; it has good, bad", named={"r_w": "goood", "r_l": "bad"})
    refused(file, "--rejected: column 'word'", "must hold numbers, got 'abc'", named={"r_w": "good", "r_l": "word"})
    refused(file, "--chosen and --rejected go together", named={"r_w": "good"})
    refused(file, "--chosen and --rejected must be two columns, got 'good'", named={"r_w": "good", "r_l": "good"})
    refused(file, "--length-chosen and --length-rejected go together", named={"length_w": "good"})
    refused(file, "--margin: ", "has no column 'm'", named={"r_w": "good", "r_l": "bad", "margin": "m"})
    for name in ("x.jsonl", "x.parquet"):
        frame = pl.DataFrame({"chosen": [1.0] * 20, "rejected": [0.0] * 20, "step": [1e308] * 20})
        frame.write_ndjson(tmp_path / name) if name == "x.jsonl" else frame.write_parquet(tmp_path / name)
        refused(tmp_path / name, "20 of 20 rows are malformed", "a finite number, within 1e+60, in 'step'")
    np.savez(tmp_path / "x.npz", chosen=np.ones((3, 4)), rejected=np.ones((3, 4)))
    refused(tmp_path / "x.npz", "no array of scores", "chosen float64[3, 4]", "refrm score")
    np.savez(tmp_path / "x.npz", chosen=np.ones(3), rejected=np.ones(4))
    refused(tmp_path / "x.npz", "arrays of one length, got chosen (3,), rejected (4,)")
    np.savez(tmp_path / "x.npz", loss=np.ones(3), step=np.ones(3))
    refused(tmp_path / "x.npz", "has the arrays loss, step")
    refused(write_lines(tmp_path / "x.csv", "1.5,2.5", "1,2"), "has the columns 1.5, 2.5")
    refused(write_lines(tmp_path / "x.csv", "chosen,rejected,chosen", "1,2,3"), "one column 'chosen', got 2")
    rows = [{"chosen": 1, "rejected": 2, "id": i} for i in range(300)]
    refused(write_lines(tmp_path / "x.jsonl", *rows), "more than 256 subsets", named={"subset": "id"})


@pytest.mark.parametrize(
    "name", ["x.parquet", "x.arrow", "stream.arrow", "x.npz", "x.jsonl.gz", "x.jsonl.xz", "x.jsonl.bz2", "x.csv.zst"]
)
def test_files_that_are_cut_or_damaged(tmp_path, name):
    rng = random.Random(0)
    rows = [{"scores_chosen": rng.random(), "scores_rejected": rng.random(), "prompt": "p"} for _ in range(2000)]
    data = WRITERS[name](rows)
    for cut in (len(data) // 2, len(data) - 3, 12):
        (tmp_path / name).write_bytes(data[:cut])
        refused(tmp_path / name, name)


def test_damaged_within(tmp_path):
    data = bytearray(
        as_frame(
            [{"scores_chosen": i / 3, "scores_rejected": 0.0, "prompt": "p"} for i in range(5000)], "write_parquet"
        )
    )
    data[100:2000] = bytes(1900)
    (tmp_path / "x.parquet").write_bytes(data)
    refused(tmp_path / "x.parquet", "x.parquet is not wholly there, or damaged")
    (tmp_path / "x.json").write_text('{"chosen": [1,\n 2}')
    refused(tmp_path / "x.json", "x.json, line 2: expected JSON, but")
    (tmp_path / "y.json").write_bytes(b'{"chosen": "\xff"}')
    refused(tmp_path / "y.json", "y.json", "UTF-8")


def test_random_damage_is_refused_or_counted(tmp_path):
    rng = random.Random(0)
    rows = [
        {"scores_chosen": rng.random(), "scores_rejected": rng.random(), "prompt": rng.choice("ab")} for _ in range(50)
    ]
    read_at_all = 0
    for _ in range(200):
        name = rng.choice(["x.jsonl", "x.csv", "x.tsv", "rows.json", "columns.json", "x.csv.gz", "x.npz", "x.parquet"])
        data = bytearray(WRITERS[name](rows))
        for _ in range(rng.choice([1, 2, 9])):
            at = rng.randrange(len(data))
            new = rng.choice([b"", b'"', b"\n", b",", b"{", b"]", b"\0", b"\xff", bytes([rng.randrange(256)])])
            data[at : at + rng.randrange(20)] = new
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(FileError):
            found = read(tmp_path / name, max_bad=0.99)
            read_at_all += 1
            assert len(found["r_w"]) + found["problems"].count >= 40 or not name.endswith(("l", "v"))
    assert 50 < read_at_all < 150


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.savez(tmp_path / "x.npz", chosen=np.array([Trap()], object), rejected=np.ones(1))
    refused(tmp_path / "x.npz", "Python objects are never unpickled")
    assert not (tmp_path / "sprung").exists()


def test_formats_by_option_and_wrong_ones(tmp_path):
    file = write_lines(tmp_path / "x", "chosen|rejected", "1|2")
    same(read(file), [1], [2])
    same(read(file, form="csv"), [1], [2])
    refused(file, "line 1: expected JSON", form="jsonl")
    refused(file, "is not a whole Parquet file", form="parquet")
    refused(file, "is not an .npz archive", form="npz")
    refused(file, "chosen_last_scores", form="stdout")
    refused(write_lines(tmp_path / "x.parquet", "chosen,rejected", "1,2"), "is not a whole Parquet file")
    same(read(write_lines(file, {"good": 1, "bad": [2]}), named={"r_w": "good", "r_l": "bad"}), [1], [2])
    # JSON lines in a file called .json, and a document called anything
    same(
        read(write_lines(tmp_path / "a.json", {"chosen": 1, "rejected": 2}, {"chosen": 3, "rejected": 4})),
        [1, 3],
        [2, 4],
    )
    same(read(write_lines(tmp_path / "b", '{"chosen": 1, "rejected": 2', {"chosen": 3, "rejected": 4})), [3], [4])
    (tmp_path / "c").write_text('{\n "chosen": [1, 3], "rejected": [2, 4]}')
    same(read(tmp_path / "c"), [1, 3], [2, 4])


def test_a_pipe_is_read_once_and_kept(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = as_jsonl([{"chosen": 1, "rejected": 2}] * 3)
    thread = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    thread.start()
    same(read(tmp_path / "pipe"), [1] * 3, [2] * 3)
    thread.join()


# Several files


def test_steps_of_files(tmp_path):
    def steps(*names):
        files = []
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            files.append(write_lines(tmp_path / name, {"chosen": 1, "rejected": 2}))
        return read(*files)["step"].tolist()

    assert steps("checkpoint-100/a.jsonl", "checkpoint-20/a.jsonl") == [100, 20]
    assert steps("scores_v2_step_10.jsonl", "scores_v2_step_5.jsonl") == [10, 5]
    assert steps("run3.jsonl", "run10.jsonl") == [3, 10]
    assert steps("a.jsonl", "b.jsonl", "c7.jsonl") == [1, 2, 3]


def test_several_files_share_codes_and_leave_aside_what_not_all_have(tmp_path):
    rows = [{"chosen": i, "rejected": 0, "prompt": f"p{i}", "subset": f"s{i}", "margin": 0} for i in range(3)]
    first = write_lines(tmp_path / "a.jsonl", *rows)
    (tmp_path / "b.csv").write_bytes(as_csv([{key: row[key] for key in row if key != "margin"} for row in rows[::-1]]))
    found = read(first, tmp_path / "b.csv", together=True)
    same(found, [0, 1, 2, 2, 1, 0], [0] * 6, subset=[0, 1, 2, 2, 1, 0])
    assert found["group"][:3].tolist() == found["group"][3:][::-1].tolist()
    assert "margin" not in found and "step" not in found
    assert found["notes"] == ("not in every file, so left aside: margin",)
    rows = [row | {"step": 5} for row in rows]
    assert read(write_lines(first, *rows), write_lines(tmp_path / "c.jsonl", *rows))["step"].tolist() == [5] * 6


def test_problems_name_their_file(tmp_path):
    first = write_lines(tmp_path / "a.jsonl", {"chosen": 1, "rejected": 2}, "x")
    second = write_lines(tmp_path / "b.csv", "chosen,rejected", "1,2", "1,y")
    found = read(first, second)
    assert [(p.file, p.line) for p in found["problems"].shown] == [(str(first), 2), (str(second), 3)]


def test_progress_is_told_in_bytes(tmp_path):
    files = [tmp_path / name for name in ("x.jsonl", "x.parquet", "x.csv")]
    for file in files:
        file.write_bytes(WRITERS[file.name]([{"scores_chosen": 1.0, "scores_rejected": 2.0, "prompt": "p"}] * 100))
    with Opened(files) as source:
        told = []
        source.moved = told.append
        assert sum(len(chunk.r_w) for chunk in source.chunks()) == 300
    assert told == sorted(told) and told[-1] == source.total == sum(os.path.getsize(file) for file in files)
