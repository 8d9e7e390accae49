"""Tiny random models of every decoder family, made and run by Transformers in float32."""
import torch
from transformers import AutoModelForCausalLM, CONFIG_MAPPING, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(2)

LENGTH = 40  # tokens, longer than every window
COMMON = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False,
              bos_token_id=1, eos_token_id=2, pad_token_id=0)
LATENT = dict(num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
              moe_intermediate_size=32, n_routed_experts=8, num_experts_per_tok=2, first_k_dense_replace=1)
ROTARY_LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                     original_max_position_embeddings=32)
ROTARY_YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
ROTARY_LONG = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5],
                   long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0])

GPT_OSS = dict(head_dim=32, num_local_experts=8, num_experts_per_tok=3, sliding_window=8, num_hidden_layers=4)

# name of the variant: model_type and what differs from COMMON
VARIANTS = {
    "llama": ("llama", {}),
    "llama, tied embeddings": ("llama", dict(tie_word_embeddings=True)),
    "llama, linear rotary scaling": ("llama", dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "llama, Llama-3 rotary scaling": ("llama", dict(rope_parameters=ROTARY_LLAMA3)),
    "llama, YaRN": ("llama", dict(rope_parameters=ROTARY_YARN)),
    "mistral": ("mistral", dict(sliding_window=None)),
    "mistral, sliding window": ("mistral", dict(sliding_window=8)),
    "qwen2": ("qwen2", {}),
    "qwen2, YaRN": ("qwen2", dict(rope_parameters=ROTARY_YARN)),
    "qwen3": ("qwen3", dict(head_dim=32)),
    "phi3": ("phi3", dict(original_max_position_embeddings=256)),
    "phi3, LongRoPE, short": ("phi3", dict(rope_parameters=ROTARY_LONG, original_max_position_embeddings=256,
                                           max_position_embeddings=1024)),
    "phi3, LongRoPE, long": ("phi3", dict(rope_parameters=ROTARY_LONG, original_max_position_embeddings=32)),
    "mixtral": ("mixtral", dict(num_local_experts=8, num_experts_per_tok=2, sliding_window=None)),
    "olmoe": ("olmoe", dict(num_key_value_heads=4, num_experts=8, num_experts_per_tok=3)),
    "olmoe, clip_qkv": ("olmoe", dict(num_key_value_heads=4, num_experts=8, num_experts_per_tok=3, clip_qkv=0.5)),
    "olmoe, fewer key/value heads": ("olmoe", dict(num_experts=8, num_experts_per_tok=3)),
    "qwen2_moe": ("qwen2_moe", dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32,
                                    shared_expert_intermediate_size=48)),
    "qwen2_moe, a dense layer": ("qwen2_moe", dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32,
                                                   shared_expert_intermediate_size=48, mlp_only_layers=[1])),
    "qwen3_moe": ("qwen3_moe", dict(head_dim=32, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32,
                                    norm_topk_prob=True)),
    "qwen3_moe, weights not normalised": ("qwen3_moe", dict(head_dim=32, num_experts=8, num_experts_per_tok=3,
                                                            moe_intermediate_size=32, norm_topk_prob=False)),
    "deepseek_v2, as V2-Lite": ("deepseek_v2", LATENT | dict(q_lora_rank=None, n_shared_experts=2, topk_method="greedy",
                                                             num_hidden_layers=27)),
    "deepseek_v2, 3 layers as V2-Lite's": ("deepseek_v2", LATENT | dict(q_lora_rank=None, n_shared_experts=2,
                                                                        topk_method="greedy")),
    "deepseek_v2, as V2": ("deepseek_v2", LATENT | dict(q_lora_rank=24, n_shared_experts=2, n_group=4, topk_group=2,
                                                        topk_method="group_limited_greedy", routed_scaling_factor=16.0)),
    "deepseek_v2, no groups": ("deepseek_v2", LATENT | dict(q_lora_rank=24, n_shared_experts=2, topk_method="greedy",
                                                            routed_scaling_factor=16.0)),
    "deepseek_v2, YaRN": ("deepseek_v2", LATENT | dict(q_lora_rank=24, n_shared_experts=1, topk_method="greedy",
                                                       rope_parameters=ROTARY_YARN | dict(mscale=0.707, mscale_all_dim=0.707))),
    "deepseek_v3": ("deepseek_v3", LATENT | dict(q_lora_rank=24, n_shared_experts=1, n_group=4, topk_group=2,
                                                 num_mtp_layers=0)),
    "deepseek_v3, YaRN": ("deepseek_v3", LATENT | dict(q_lora_rank=24, n_shared_experts=1, n_group=4, topk_group=2,
                                                       num_mtp_layers=0,
                                                       rope_parameters=ROTARY_YARN | dict(mscale=1.0, mscale_all_dim=1.0))),
    "gpt_oss": ("gpt_oss", GPT_OSS | dict(rope_parameters=dict(rope_type="yarn", rope_theta=150000.0, factor=4.0,
                                                               beta_fast=32.0, beta_slow=1.0, truncate=False,
                                                               original_max_position_embeddings=64))),
    "gpt_oss, no rotary scaling": ("gpt_oss", GPT_OSS | dict(rope_parameters=dict(rope_type="default",
                                                                                  rope_theta=150000.0))),
}


def randomise(model):
    """Weights with which every part counts: matrices that keep sizes, norms about one, biases that are not zero."""
    generator = torch.Generator().manual_seed(1)

    def draw(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1 and not name.endswith("_bias"):
                p.copy_(draw(p) * 1.6 * p.shape[-1] ** -0.5)
            elif "bias" in name or "sinks" in name:
                p.copy_(0.3 * draw(p))
            else:
                p.copy_(1 + 0.2 * draw(p))
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                b.copy_(0.1 * draw(b))


def make(variant):
    model_type, options = VARIANTS[variant]
    config = CONFIG_MAPPING[model_type](**COMMON | options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    randomise(model)
    return model.eval()


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def tokens(vocab_size=COMMON["vocab_size"], length=LENGTH):
    generator = torch.Generator().manual_seed(2)
    return torch.randint(3, vocab_size, (length,), generator=generator).tolist()


def logits(model, ids):
    """Logits [T, V] and, by layer, the chosen experts of each token."""
    chosen = {}
    hooks = []
    for layer, block in enumerate(model.model.layers):
        for module in block.modules():
            if type(module).__name__.lower().endswith("topkrouter"):
                hooks.append(module.register_forward_hook(
                    lambda _module, _inputs, output, layer=layer: chosen.update({layer: output[-1].tolist()})))
    with torch.no_grad():
        values = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    return values, chosen
