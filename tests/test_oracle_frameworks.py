"""The checker with other frameworks than NumPy; `tox -e frameworks` installs them."""

import numpy as np
import pytest

from refrm.oracle import check

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tox -e frameworks")
jax = pytest.importorskip("jax", reason="JAX is not installed: tox -e frameworks")
F, jnp = torch.nn.functional, jax.numpy


def torch_mean(r_w, r_l, margin):
    return -F.logsigmoid(r_w - r_l - margin).mean() + 0.01 * torch.mean((r_w + r_l) ** 2)


def torch_pairs(r_w, r_l):
    return -F.logsigmoid(r_w - r_l)


def torch_cast(r_w, r_l):
    return -F.logsigmoid(r_w.float() - r_l.float()).mean()


def torch_values(r_w, r_l):
    with torch.no_grad():
        return -F.logsigmoid(r_w - r_l).mean()


class TorchModule(torch.nn.Module):
    def forward(self, r_w, r_l, margin=None):
        return -F.logsigmoid(r_w - r_l - (0 if margin is None else margin)).sum()


def jax_mean(r_w, r_l, margin):
    return -jnp.mean(jax.nn.log_sigmoid(r_w - r_l - margin)) + 0.1 * jnp.mean((r_w + r_l) ** 2)


def jax_sum(r_w, r_l):
    return jnp.sum(jnp.logaddexp(0.0, r_l - r_w))


jax_value_and_grad = jax.value_and_grad(jax_sum, argnums=(0, 1))

RIGHT = [
    (torch_mean, "torch", "mean(-log sigma(d - margin)) + 0.01*mean(r_w + r_l)^2", "autograd"),
    (torch_pairs, "torch", "-log sigma(d), for each pair", "autograd"),
    (torch_cast, "torch", "mean(-log sigma(d))", "autograd"),
    (TorchModule(), "torch", "sum(-log sigma(d - margin))", "autograd"),
    (jax_mean, "jax", "mean(-log sigma(d - margin)) + 0.1*mean(r_w + r_l)^2", "autograd"),
    (jax_sum, "jax", "sum(-log sigma(d))", "autograd"),
    (jax_value_and_grad, "jax", "sum(-log sigma(d))", "returned"),
]


@pytest.mark.parametrize(("f", "framework", "loss", "gradients"), RIGHT, ids=lambda x: getattr(x, "__name__", None))
def test_a_right_loss_conforms(f, framework, loss, gradients):
    threads = torch.get_num_threads()
    report = check(f)
    assert torch.get_num_threads() == threads
    assert report.conforms, str(report)
    assert (report.framework, report.convention["loss"], report.gradients) == (framework, loss, gradients)
    assert report.dtypes == (("float32",) if f is torch_cast else ("float64", "float32"))
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("f", [torch_mean, torch_cast, jax_mean], ids=lambda f: f.__name__)
def test_a_right_loss_conforms_in_half_precision(f, dtype):
    coef = {torch_mean: 0.01, torch_cast: 0, jax_mean: 0.1}[f]
    report = check(f, dtypes=[dtype], coef=coef, reduction="mean")
    assert report.conforms, str(report)
    assert report.dtypes == (dtype,)


def torch_wrong(r_w, r_l):
    return (-F.logsigmoid(r_w - r_l) + 0.01 * (r_w - r_l) ** 2).mean()


def torch_naive(r_w, r_l):
    return -torch.log(torch.sigmoid(r_w - r_l)).mean()


def torch_detached(r_w, r_l):
    return -F.logsigmoid(r_w - r_l.detach()).mean()


def torch_threshold(r_w, r_l):
    return F.softplus(r_l - r_w).mean()


def torch_bce(r_w, r_l):
    return F.binary_cross_entropy_with_logits(r_w - r_l, torch.ones_like(r_w))


def torch_ce(r_w, r_l):
    first = torch.zeros(len(r_w), dtype=torch.long)
    return F.cross_entropy(torch.stack([r_w, r_l], -1), first) + 0.01 * ((r_w + r_l) ** 2).mean()


def torch_broadcast(r_w, r_l, margin):
    return -F.logsigmoid(r_w[:, None] - r_l[:, None] - margin).mean()


def jax_naive(r_w, r_l):
    return jnp.mean(jnp.log(1 + jnp.exp(r_l - r_w)))


def jax_swapped(r_w, r_l):
    return -jnp.mean(jax.nn.log_sigmoid(r_l - r_w)) + 0.05 * jnp.mean(r_w + r_l) ** 2


def jax_rounded(r_w, r_l):
    return -jnp.mean(jax.nn.log_sigmoid((r_w - r_l).astype(jnp.bfloat16).astype(r_w.dtype)))


@pytest.mark.parametrize(
    ("f", "names"),
    [
        (torch_wrong, ["squared-difference"]),
        (torch_naive, ["naive-log-sigmoid"]),
        (torch_detached, ["detached-side"]),
        (torch_threshold, ["softplus-threshold"]),
        (torch_values, ["detached-side"]),
        (torch_bce, ["slope-cancels"]),
        (torch_ce, ["cross-entropy"]),
        (torch_broadcast, ["margin-broadcast"]),
        (jax_naive, ["naive-log-exp"]),
        (jax_swapped, ["swapped"]),
        (jax_rounded, ["rounded-difference"]),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_wrong_loss_is_named(f, names):
    report = check(f)
    assert not report.conforms
    assert [mistake.name for mistake in report.mistakes] == names, str(report)


def test_a_loss_without_autograd_is_said_to_be_judged_by_its_values():
    report = check(lambda r_w, r_l: -F.logsigmoid(r_w - r_l).mean().item(), dtypes=["float32"])
    assert (report.framework, report.gradients) == ("torch", "none")
    assert any("gradients are not judged: with torch arrays, it returned float" in note for note in report.notes)


def test_values_alone_can_be_judged():
    assert check(torch_values, gradients=False).conforms


def test_a_module_of_the_array_api():
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed: tox -e frameworks")

    def loss(r_w, r_l):
        return xp.mean(xp.logaddexp(xp.zeros_like(r_w), r_l - r_w))

    report = check(loss)
    assert report.conforms, str(report)
    assert (report.framework, report.gradients) == ("array_api_strict", "none")


def test_a_numpy_loss_in_a_module_that_also_has_torch_and_jax():
    def loss(r_w, r_l):
        return np.mean(np.logaddexp(0, r_l - r_w))

    assert check(loss).framework == "numpy"
