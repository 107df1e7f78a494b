"""A checkpoint in transformers: its configuration as we read it, and the whole model in float32 with our weights.

Both go around what transformers 4.57 would make of the folder itself: it passes over the rotary facts that version 5
writes, and knows nothing of an adapter whose base lies elsewhere.
"""

from __future__ import annotations

from typing import Any

from toolace_edge.errors import MissingDependency

from .checkpoint import Checkpoint


def transformers_config(checkpoint: Checkpoint) -> Any:
    """The checkpoint's PretrainedConfig with the vocabulary and the rotary facts as we read them."""
    config = _transformers().AutoConfig.from_pretrained(checkpoint.folders[-1], local_files_only=True)
    ours = checkpoint.config
    config.vocab_size = ours.vocab_size
    config.rope_theta = ours.rope_theta
    config.rope_scaling = None
    if (scaling := ours.rope_scaling) is not None:
        config.rope_scaling = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_n_ctx,
        }
    return config


def float32_model(checkpoint: Checkpoint) -> Any:
    """The PreTrainedModel, 4 bytes a weight, with full attention: within `n_ctx` a sliding window hides nothing."""
    import torch
    from transformers.modeling_utils import no_init_weights

    config = transformers_config(checkpoint)
    config.sliding_window, config.use_sliding_window = None, False
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * checkpoint.config.n_layers
    config.tie_word_embeddings = checkpoint.config.tied
    with no_init_weights():
        model = _transformers().AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="sdpa"
        )
    model.tie_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(checkpoint.tensor(name)))
    return model.eval()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency("transformers", "convert") from error
    return transformers
