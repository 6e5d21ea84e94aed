"""Fit the linear reward model to pairs.npz with PyTorch: the job of `refrm fit`."""

import argparse

import numpy as np
import torch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--center", type=float, default=0.0)
    parser.add_argument("--no-plot", action="store_true")
    options = parser.parse_args()
    with np.load(options.pairs) as pairs:
        chosen, rejected = (torch.from_numpy(pairs[name]).double() for name in ("chosen", "rejected"))
    p = chosen.shape[1]
    theta = torch.zeros(p, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [theta], max_iter=1000, tolerance_grad=1e-8 / p**0.5, tolerance_change=0, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    history = []

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        r_w, r_l = chosen @ theta, rejected @ theta
        value = -torch.nn.functional.logsigmoid(r_w - r_l).mean() + options.center * ((r_w + r_l) ** 2).mean()
        value.backward()
        with torch.no_grad():
            history.append([(r_w + r_l).mean().item() / 2, (r_w - r_l).mean().item()])
        return value

    value = optimiser.step(closure)
    with torch.no_grad():
        r_w, r_l = chosen @ theta, rejected @ theta
    np.savez(options.output, theta=theta.detach().numpy())
    if not options.no_plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        for axis, column, title in zip(axes, np.array(history).T, ("mean score", "mean margin"), strict=True):
            axis.plot(column)
            axis.set(xlabel="evaluation", title=title)
        figure.savefig(f"{options.output}.png", dpi=130)
    mean, margin, accuracy = (r_w + r_l).mean() / 2, (r_w - r_l).mean(), (r_w > r_l).double().mean()
    print(f"J {value.item():.6f}, mean score {mean:.2f}, mean margin {margin:.2f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
