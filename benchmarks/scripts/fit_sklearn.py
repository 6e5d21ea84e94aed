"""Fit the linear reward model to pairs.npz with scikit-learn: the job of `refrm fit`.

Why the squared sum enters as pseudo-observations: see `sklearn_augmented`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from pseudo import sklearn_augmented


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--center", type=float, default=0.0)
    parser.add_argument("--no-plot", action="store_true")
    options = parser.parse_args()
    with np.load(options.pairs) as pairs:
        chosen, rejected = (pairs[name].astype(np.float64) for name in ("chosen", "rejected"))
    theta = sklearn_augmented(chosen, rejected, options.center)
    r_w, r_l = chosen @ theta, rejected @ theta
    np.savez(options.output, theta=theta)
    if not options.no_plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        for axis, values, title in zip(axes, ((r_w + r_l) / 2, r_w - r_l), ("score", "margin"), strict=True):
            axis.hist(values, 40)
            axis.set(title=title)
        figure.savefig(f"{options.output}.png", dpi=130)
    mean, margin, accuracy = (r_w + r_l).mean() / 2, (r_w - r_l).mean(), (r_w > r_l).mean()
    value = np.logaddexp(0, r_l - r_w).mean() + options.center * ((r_w + r_l) ** 2).mean()
    print(f"J {value:.6f}, mean score {mean:.2f}, mean margin {margin:.2f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
