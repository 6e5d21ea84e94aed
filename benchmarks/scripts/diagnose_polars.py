"""The sums of a diagnosis as a query of polars: ``python diagnose_polars.py FILE [--plain]``; prints one JSON object.

With ``--plain`` without what is seldom written by hand: moments beyond the second, and what float16, bfloat16 and
float32 do to the scores.
"""

import json
import sys

import polars as pl

BINS = 20
FORMATS = {"float32": (24, 2.0**-126), "float16": (11, 2.0**-14), "bfloat16": (8, 2.0**-126)}


def main(file: str, plain: bool) -> None:
    w, v = pl.col("chosen"), pl.col("rejected")
    x, d, e, unsure, loss, doubt, size = map(pl.col, ("x", "d", "e", "unsure", "loss", "doubt", "size"))
    pairs = pl.scan_parquet(file).select(w, v, x=0.5 * (w + v), d=w - v)
    pairs = pairs.with_columns(size=d.abs()).with_columns(e=(-size).exp())
    pairs = pairs.with_columns(unsure=e / (1 + e), loss=e.log1p() + (-d).clip(0))
    pairs = pairs.with_columns(
        doubt=pl.when(d > 0).then(unsure).otherwise(1 - unsure),
        bin=(unsure * (2 * BINS)).cast(pl.Int8).clip(upper_bound=BINS - 1),
    )
    brier = doubt * doubt
    sums = {
        "n": pl.len(), "right": (d > 0).sum(), "tied": (d == 0).sum(),
        "x": x.sum(), "d": d.sum(), "xx": (x * x).sum(), "dd": (d * d).sum(), "xd": (x * d).sum(),
        "loss": loss.sum(), "loss2": (loss * loss).sum(), "brier": brier.sum(), "brier2": (brier * brier).sum(),
        "unsure": unsure.sum(),
    }  # fmt: skip
    if not plain:
        pairs = pairs.with_columns(xx=x * x, dd=d * d, xd=x * d, **octaves(w, v))
        xx, dd, xd = map(pl.col, ("xx", "dd", "xd"))
        sums |= {
            "xxx": (xx * x).sum(), "xxd": (xx * d).sum(), "xdd": (x * dd).sum(), "ddd": (dd * d).sum(),
            "xxxx": (xx * xx).sum(), "xxxd": (xx * xd).sum(), "xxdd": (xx * dd).sum(), "xddd": (xd * dd).sum(),
            "dddd": (dd * dd).sum(),
        }  # fmt: skip
        for name, (bits, smallest) in FORMATS.items():
            of_w, of_v = (pl.max_horizontal(of, pl.lit(smallest)) * 2.0 ** (1 - bits) for of in ("of_w", "of_v"))
            tied = (w / of_w).round(mode="half_to_even") * of_w == (v / of_v).round(mode="half_to_even") * of_v
            sums[f"{name}_below"] = ((size > 0) & (size < pl.max_horizontal(of_w, of_v))).sum()
            sums[f"{name}_tied"] = (tied & (size > 0)).sum()
    ends = {"low": pl.min_horizontal(w, v).min(), "high": pl.max_horizontal(w, v).max(), "widest": size.max()}
    bins = pairs.group_by("bin").agg(**sums, **ends).sort("bin").collect(engine="streaming")
    total = bins.select(pl.col(list(sums)).sum(), pl.col("low").min(), pl.col("high", "widest").max())
    print(json.dumps({**total.to_dicts()[0], "curve": bins.select("n", "right", "unsure").rows()}))


def octaves(w: pl.Expr, v: pl.Expr) -> dict[str, pl.Expr]:
    """Return 2^floor(log2 |score|), from which the spacing of any format follows."""
    return {name: pl.lit(2.0).pow(of.abs().log(2).floor()) for name, of in (("of_w", w), ("of_v", v))}


if __name__ == "__main__":
    main(sys.argv[1], "--plain" in sys.argv)
