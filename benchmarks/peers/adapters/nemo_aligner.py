"""NeMo-Aligner: `MegatronGPTRewardModel.loss_func` on an output tensor (2N, 1), chosen first."""

import torch
from loading import load
from peer import Case, Peer

GPT = "nemo_aligner.models.nlp.gpt"
module = load(
    f"{GPT}.megatron_gpt_reward_model",
    bare=("nemo_aligner", "nemo_aligner.models", "nemo_aligner.models.nlp", GPT),
    inert=(
        "lightning", "megatron", "omegaconf", "nemo",
        "nemo_aligner.utils", "nemo_aligner.models.alignable_interface", f"{GPT}.gpt_reward_model",
    ),
)  # fmt: skip
model = module.MegatronGPTRewardModel.__new__(module.MegatronGPTRewardModel)

PEERS = (
    Peer(
        "nemo-aligner",
        f"{GPT}.megatron_gpt_reward_model.MegatronGPTRewardModel.loss_func",
        "the module file is imported without its packages' `__init__`; NeMo, Megatron, Lightning and OmegaConf are "
        "stand-ins; the model object is made without its constructor",
        (Case("", lambda r_w, r_l: model.loss_func(torch.cat([r_w, r_l])[:, None])[0], {"coef": 0.0}),),
    ),
)
