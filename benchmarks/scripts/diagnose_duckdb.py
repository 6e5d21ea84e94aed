"""The sums of a diagnosis as a query of DuckDB: ``python diagnose_duckdb.py FILE [--plain]``; prints one JSON object.

``--plain`` as in diagnose_polars.py.
"""

import json
import os
import sys

import duckdb

BINS = 20
FORMATS = {"float32": (24, 2.0**-126), "float16": (11, 2.0**-14), "bfloat16": (8, 2.0**-126)}
ENDS = {"low": min, "high": max, "widest": max}
MORE = ("xxx", "xxd", "xdd", "ddd", "xxxx", "xxxd", "xxdd", "xddd", "dddd")


def query(plain: bool) -> str:
    """Return the query."""
    octaves = sums = ""
    if not plain:
        octaves = ", pow(2.0, floor(log2(abs(chosen)))) AS of_w, pow(2.0, floor(log2(abs(rejected)))) AS of_v"
        sums = "".join(f", sum({' * '.join(name)}) AS {name}" for name in MORE)
        for name, (bits, smallest) in FORMATS.items():
            unit = f"{2.0 ** (1 - bits)!r}::DOUBLE"
            at_w, at_v = (f"(greatest({of}, {smallest!r}::DOUBLE) * {unit})" for of in ("of_w", "of_v"))
            w, v = (f"round_even({score} / {step}, 0) * {step}" for score, step in (("w", at_w), ("v", at_v)))
            below = f"d <> 0 AND abs(d) < greatest({at_w}, {at_v})"
            sums += f", sum(CAST({below} AS INT)) AS {name}_below"
            sums += f", sum(CAST(d <> 0 AND {w} = {v} AS INT)) AS {name}_tied"
    return f"""
WITH pairs AS (
    SELECT chosen AS w, rejected AS v, 0.5 * (chosen + rejected) AS x, chosen - rejected AS d,
           exp(-abs(chosen - rejected)) AS e {octaves}
    FROM read_parquet($file)
), terms AS (
    SELECT *, e / (1 + e) AS unsure, ln(1 + e) + greatest(-d, 0) AS loss,
           CASE WHEN d > 0 THEN e / (1 + e) ELSE 1 - e / (1 + e) END AS doubt
    FROM pairs
)
SELECT least(CAST(floor(unsure * {2 * BINS}) AS TINYINT), {BINS - 1}) AS bin,
       count(*) AS n, sum(CAST(d > 0 AS INT)) AS "right", sum(CAST(d = 0 AS INT)) AS tied,
       sum(x) AS x, sum(d) AS d, sum(x * x) AS xx, sum(d * d) AS dd, sum(x * d) AS xd,
       sum(loss) AS loss, sum(loss * loss) AS loss2,
       sum(doubt * doubt) AS brier, sum(doubt * doubt * doubt * doubt) AS brier2, sum(unsure) AS unsure,
       min(least(w, v)) AS low, max(greatest(w, v)) AS high, max(abs(d)) AS widest {sums}
FROM terms GROUP BY bin ORDER BY bin
"""


def main(file: str, plain: bool) -> None:
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    table = duckdb.connect(config={"threads": threads}).execute(query(plain), {"file": file})
    names = [column[0] for column in table.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in table.fetchall()]
    total = {name: float(ENDS.get(name, sum)(row[name] for row in rows)) for name in names[1:]}
    print(json.dumps({**total, "curve": [[float(row[name]) for name in ("n", "right", "unsure")] for row in rows]}))


if __name__ == "__main__":
    main(sys.argv[1], "--plain" in sys.argv)
