"""The flags of the test vectors: each names one known mistake, says what it does, and where it was seen.

"none known" as source: derived from the theorem or convention named, no public report. Ids R, M, L, D, F as the
catalogue in `refrm.oracle` has them; G is about gradients, P about parameters, A about optimisers, N about numbers.
"""

NOTES = {
    "squared-difference": ("R1", "penalty (r_w - r_l)^2 for (r_w + r_l)^2", "huggingface/trl#1932, first draft"),
    "negative-coefficient": ("R2", "a negative coefficient is taken as it is", "axolotl-ai-cloud/axolotl#3124"),
    "sum-of-squares": ("R3", "penalty r_w^2 + r_l^2 for (r_w + r_l)^2", "pytorch/rl#3922"),
    "factor-of-two": ("R4", "the penalty has another factor 2 or 1/2", "PKU-Alignment/align-anything@3f9decc"),
    "batch-sum": (
        "R5",
        "penalty B*(mean of the 2B scores)^2, which grows with the batch",
        "LinkedIn-XFACT/RM-Robustness@3bafaab",
    ),
    "minus-sign": ("R6", "the penalty is subtracted, as a course text prints it", "theorem T10"),
    "penalty-twice": (
        "R7",
        "the penalty is multiplied by its coefficient twice",
        "modelscope/ms-swift@3602360a5:rlhf_trainers/reward_trainer.py",
    ),
    "sum-to-zero": ("R8", "penalty (mean s)^2 for mean s^2, so that pairs cancel", "arXiv 2505.07271; theorem T12"),
    "penalty-missing": ("R9", "the coefficient has no effect", "OpenRLHF/OpenRLHF@3c3be623:models/loss.py"),
    "margin-broadcast": (
        "M1",
        "margins of shape (N,) meet differences of shape (N, 1): a mean over N x N",
        "huggingface/trl#719",
    ),
    "margin-sign": ("M2", "the margin is added to r_w - r_l", "OpenRLHF/OpenRLHF#129"),
    "margin-ignored": ("M3", "the margin has no effect", "OpenRLHF/OpenRLHF@3c3be623:models/loss.py"),
    "margin-outside": ("M4", "the margin is outside the sigmoid: -log(sigma(d) - m)", "natolambert/rlhf-book#96"),
    "margin-misaligned": ("M5", "margins of 0 are dropped, and the rest move up", "modelscope/ms-swift#9927"),
    "missing-log": ("L1", "-sigma(z): the logarithm is missing", "HarderThenHarder/transformers_tasks#15"),
    "naive-log-sigmoid": (
        "L2",
        "-log(1/(1 + exp(-z))): infinite in one tail, 0 in the other",
        "microsoft/DeepSpeedExamples#423",
    ),
    "naive-log-exp": (
        "L3",
        "log(1 + exp(-z)): infinite, with NaN gradients, in one tail, 0 in the other",
        "OpenRLHF/OpenRLHF#1278",
    ),
    "epsilon-in-log": ("L4", "-log(sigma(z) + 1e-5): capped at 11.5 and flat there", "OpenLMLab/MOSS-RLHF"),
    "normalised-argument": (
        "L5",
        "the argument is d/sqrt(r_w^2 + r_l^2): NaN where both are 0",
        "LinkedIn-XFACT/RM-Robustness@3bafaab",
    ),
    "swapped": ("L6", "chosen and rejected are exchanged", "allenai/reward-bench#75"),
    "softplus-threshold": (
        "L7",
        "softplus turns linear above 20: off by up to 2e-9",
        "pytorch/pytorch, torch.nn.functional.softplus, threshold=20",
    ),
    "smoothing-flipped": ("L8", "eps and 1 - eps are exchanged", "none known; theorem T14"),
    "smoothing-ignored": ("L9", "the label smoothing has no effect", "none known; theorem T14"),
    "sum-for-mean": ("D1", "a sum over the batch for the mean", "InternLM/xtuner@b934f4620:model/reward.py"),
    "skipped-in-denominator": ("D2", "sum(w x)/N for sum(w x)/sum(w): left-out pairs count", "pytorch/rl#3886"),
    "score-broadcast": (
        "D5",
        "scores of shapes (N, 1) and (N,) are subtracted: a mean over N x N",
        "modelscope/ms-swift#9927, the same broadcast",
    ),
    "weight-zero-counts": ("D6", "a pair of weight 0 is multiplied by 0: 0*inf = NaN", "none known; conventions"),
    "rounded-difference": (
        "F1",
        "r_w - r_l is rounded to half precision before the sigmoid",
        "microsoft/DeepSpeedExamples#754",
    ),
    "nan-hidden": ("N1", "a NaN score counts as 0", "none known; conventions"),
    "detached-side": (
        "G1",
        "one of the two scores gets no gradient",
        "karpathy/micrograd:micrograd/engine.py, where += is the remedy",
    ),
    "slope-cancels": (
        "G2",
        "the slope is sigma(z) - 1, a difference: without digits in the tail, and 0 above 37",
        "ContextualAI/HALOs@4831988, binary_cross_entropy_with_logits",
    ),
    "shared-parameters-assigned": (
        "P1",
        "the gradient of the rejected response overwrites that of the chosen one, both being of one theta",
        "karpathy/micrograd:micrograd/engine.py, where += is the remedy",
    ),
    "relu-at-zero": ("P2", "the derivative of relu at 0 is 1", "arXiv 2106.12915; conventions"),
    "bias-in-margin": (
        "P3",
        "the bias of the head is thought to cancel, as it does in r_w - r_l, and gets no gradient",
        "none known; theorem T1",
    ),
    "gelu-tanh": ("P4", "gelu by its approximation with tanh", "jax-ml/jax, jax.nn.gelu, approximate=True by default"),
    "adam-bias-correction": ("A1", "moving averages from 0 are not divided by 1 - beta^n", "OpenRLHF/OpenRLHF#650"),
    "adam-epsilon-inside": (
        "A2",
        "eps is added inside the root: sqrt(v + eps)",
        "google-deepmind/optax, scale_by_adam, eps_root",
    ),
    "weight-decay-coupled": ("A3", "weight decay goes through the moving averages", "arXiv 1711.05101"),
    "momentum-dampened": (
        "A4",
        "v <- momentum*v + (1 - momentum)*g",
        "pytorch/pytorch, torch.optim.SGD, dampening",
    ),
}

REASONS = {
    "loss": "Every operation in the group's dtype with its largest error, followed through by ball arithmetic: 1/2 ulp "
    "for + - *, 2.5 for /, 3 for exp, 2 for log1p (OpenCL's full profile), and two roundings for factors and store. "
    "Rounding d = r_w - r_l alone costs about |d|/2 ulp in the tail; where d is exact it costs nothing.",
    "penalty": "Every operation in the group's dtype with its largest error, followed through by ball arithmetic: "
    "1/2 ulp for + - *, 2.5 for /, sums in any order, and two roundings for factors and store.",
    "widened": "As for an implementation that widens the scores to float32 before it subtracts, and rounds its "
    "results to the group's dtype: float32 errors followed through by ball arithmetic, and two roundings of the dtype.",
    "model": "Every operation in the group's dtype with its largest error, followed through by ball arithmetic from "
    "the features to the gradient: 1/2 ulp for + - *, 2.5 for /, 3 for exp, 2 for log1p, 5 for tanh, 16 for erf, sums "
    "in any order, and two roundings for factors and store.",
    "training": "Every operation in the group's dtype with its largest error, followed through by ball arithmetic from "
    "step to step: 1/2 ulp for + - *, 2.5 for /, 3 for exp and sqrt, 2 for log1p, 5 for tanh, sums in any order.",
    "limit": 'An infinity or NaN must be met; what is finite as in the reason "loss".',
}
