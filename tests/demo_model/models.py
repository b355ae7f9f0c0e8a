"""The three networks' sizes, in exactly the classes and block order of Stable Diffusion 1.x; only the numbers shrink.

Sizes in fp16: VAE 3.4 MB, UNet 6.5 MB, text model 1.2 MB, tokenizer 0.06 MB. Group norms have four groups, not 32:
with so few channels 32 groups come near instance norm, which wipes out colour. The tokenizer's files are those that
ship with the demo model (CLIP's first 2,000 merges and what the captions' words need).
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIDE = 128
LATENT_SCALE = 0.18215  # Stable Diffusion 1.x's own; `whiten` in train_vae.py makes the latents fit it
TOKENIZER = Path(__file__).resolve().parents[2] / "sdrest-worker" / "demo-model" / "tokenizer"
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
    "skip_prk_steps": True,
    "prediction_type": "v_prediction",
}


def new_vae():
    """The autoencoder, f = 8, four latent channels; its posterior starts nearly certain, or noise drowns the start."""
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1, norm_num_groups=4, act_fn="silu",
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[16, 32, 64, 96], sample_size=SIDE, scaling_factor=LATENT_SCALE,
    )
    with torch.no_grad():
        vae.quant_conv.weight[:4] *= 3
        vae.quant_conv.weight[4:] *= 0.1
        vae.quant_conv.bias[4:] = -5.0
    return vae


def new_unet():
    """The UNet. Plain attention: on a CPU it beats the fused one at these head sizes."""
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4, act_fn="silu",
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        block_out_channels=[32, 64, 128], cross_attention_dim=96, attention_head_dim=4,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def new_text_model(tokenizer):
    """The text model for this tokenizer's vocabulary."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
        projection_dim=96, max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )
    model = CLIPTextModel._from_config(config, attn_implementation="eager")
    for name, weight in model.named_parameters():
        if "embedding" in name:
            torch.nn.init.normal_(weight, std=0.3 if "token" in name else 0.1)
        elif weight.ndim == 2:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return model


def new_tokenizer():
    """The demo model's CLIP tokenizer."""
    return CLIPTokenizer.from_pretrained(TOKENIZER)


def alphas_cumulative():
    """ᾱ for the 1000 training timesteps of the scaled-linear schedule."""
    root = torch.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000, dtype=torch.float64)
    return torch.cumprod(1 - root**2, 0).float()
