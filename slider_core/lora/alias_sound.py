"""Other programs' names of layers in models of sound, by a layer that the model has. What a line says: aliases.py."""

from .alias_image import repeated

_TRANSFORMER = """
timestep_proj.*                              to_timestep_embed.*
cross_attention_proj.*                       to_cond_embed.*
global_proj.*                                to_global_embed.*
proj_in                                      transformer.project_in
proj_out                                     transformer.project_out
transformer_blocks.*.attn1.to_q              transformer.layers.*.self_attn.to_qkv  1/3
transformer_blocks.*.attn1.to_k              transformer.layers.*.self_attn.to_qkv  2/3
transformer_blocks.*.attn1.to_v              transformer.layers.*.self_attn.to_qkv  3/3
transformer_blocks.*.attn1.to_out.0          transformer.layers.*.self_attn.to_out
transformer_blocks.*.attn2.to_q              transformer.layers.*.cross_attn.to_q
transformer_blocks.*.attn2.to_k              transformer.layers.*.cross_attn.to_kv  1/2
transformer_blocks.*.attn2.to_v              transformer.layers.*.cross_attn.to_kv  2/2
transformer_blocks.*.attn2.to_out.0          transformer.layers.*.cross_attn.to_out
transformer_blocks.*.ff.net.0.proj           transformer.layers.*.ff.ff.0.proj
transformer_blocks.*.ff.net.2                transformer.layers.*.ff.ff.2
transformer_blocks.*.self_attn.to_qkv        transformer.layers.*.self_attn.to_qkv
transformer_blocks.*.self_attn.to_out        transformer.layers.*.self_attn.to_out
transformer_blocks.*.cross_attn.to_q         transformer.layers.*.cross_attn.to_q
transformer_blocks.*.cross_attn.to_kv        transformer.layers.*.cross_attn.to_kv
transformer_blocks.*.cross_attn.to_out       transformer.layers.*.cross_attn.to_out
transformer_blocks.*.ff.proj_in              transformer.layers.*.ff.ff.0.proj
transformer_blocks.*.ff.proj_out             transformer.layers.*.ff.ff.2
transformer_blocks.*.to_local_embed.*        transformer.layers.*.to_local_embed.*
"""

_MUSIC = """
time_embed.linear_1                      diffusion_transformer.to_timestep_embed.0
time_embed.linear_2                      diffusion_transformer.to_timestep_embed.2
preprocess_conv                          diffusion_transformer.preprocess_conv
postprocess_conv                         diffusion_transformer.postprocess_conv
proj_in                                  diffusion_transformer.transformer.project_in
proj_out                                 diffusion_transformer.transformer.project_out
transformer_blocks.*.attn.to_q           diffusion_transformer.transformer.layers.*.self_attn.to_qkv  1/3
transformer_blocks.*.attn.to_k           diffusion_transformer.transformer.layers.*.self_attn.to_qkv  2/3
transformer_blocks.*.attn.to_v           diffusion_transformer.transformer.layers.*.self_attn.to_qkv  3/3
transformer_blocks.*.attn.to_out.0       diffusion_transformer.transformer.layers.*.self_attn.to_out
transformer_blocks.*.ff_in               diffusion_transformer.transformer.layers.*.ff.ff.0.proj
transformer_blocks.*.ff_out              diffusion_transformer.transformer.layers.*.ff.ff.2
"""

_ACE = """
layers.*.{0}.to_q        decoder.layers.*.{0}.q_proj
layers.*.{0}.to_k        decoder.layers.*.{0}.k_proj
layers.*.{0}.to_v        decoder.layers.*.{0}.v_proj
layers.*.{0}.to_out.0    decoder.layers.*.{0}.o_proj
layers.*.{0}.norm_q      decoder.layers.*.{0}.q_norm
layers.*.{0}.norm_k      decoder.layers.*.{0}.k_norm
"""
_ACE_IN = """
proj_in_conv             decoder.proj_in.1
"""

SOUND = {
    "transformer.layers.0.cross_attn.to_kv": _TRANSFORMER,
    "diffusion_transformer.transformer.project_in": _MUSIC,
    "decoder.layers.0.self_attn.q_proj": _ACE_IN + repeated(_ACE, "self_attn", "cross_attn"),
}
