"""Other programs' names of layers in video models, by a layer that the model has. What a line says: aliases.py."""

from .alias_image import THIRDS, repeated

_WAN_BLOCK = """
{0}.*.attn1.to_q            {0}.*.self_attn.q
{0}.*.attn1.to_k            {0}.*.self_attn.k
{0}.*.attn1.to_v            {0}.*.self_attn.v
{0}.*.attn1.to_out.0        {0}.*.self_attn.o
{0}.*.attn1.norm_q          {0}.*.self_attn.norm_q
{0}.*.attn1.norm_k          {0}.*.self_attn.norm_k
{0}.*.attn2.to_q            {0}.*.cross_attn.q
{0}.*.attn2.to_k            {0}.*.cross_attn.k
{0}.*.attn2.to_v            {0}.*.cross_attn.v
{0}.*.attn2.to_out.0        {0}.*.cross_attn.o
{0}.*.attn2.add_k_proj      {0}.*.cross_attn.k_img
{0}.*.attn2.add_v_proj      {0}.*.cross_attn.v_img
{0}.*.attn2.norm_q          {0}.*.cross_attn.norm_q
{0}.*.attn2.norm_k          {0}.*.cross_attn.norm_k
{0}.*.attn2.norm_added_k    {0}.*.cross_attn.norm_k_img
{0}.*.ffn.net.0.proj        {0}.*.ffn.0
{0}.*.ffn.net.2             {0}.*.ffn.2
{0}.*.self_attn.to_q        {0}.*.self_attn.q
{0}.*.self_attn.to_k        {0}.*.self_attn.k
{0}.*.self_attn.to_v        {0}.*.self_attn.v
{0}.*.self_attn.to_out.0    {0}.*.self_attn.o
{0}.*.cross_attn.to_q       {0}.*.cross_attn.q
{0}.*.cross_attn.to_k       {0}.*.cross_attn.k
{0}.*.cross_attn.to_v       {0}.*.cross_attn.v
{0}.*.cross_attn.to_out.0   {0}.*.cross_attn.o
{0}.*.cross_attn.add_k_proj {0}.*.cross_attn.k_img
{0}.*.cross_attn.add_v_proj {0}.*.cross_attn.v_img
{0}.*.norm2                 {0}.*.norm3
{0}.*.proj_in               {0}.*.before_proj
{0}.*.proj_out              {0}.*.after_proj
"""
_WAN = """
condition_embedder.time_embedder.linear_1         time_embedding.0
condition_embedder.time_embedder.linear_2         time_embedding.2
condition_embedder.time_proj                      time_projection.1
condition_embedder.text_embedder.linear_1         text_embedding.0
condition_embedder.text_embedder.linear_2         text_embedding.2
condition_embedder.image_embedder.norm1           img_emb.proj.0
condition_embedder.image_embedder.ff.net.0.proj   img_emb.proj.1
condition_embedder.image_embedder.ff.net.2        img_emb.proj.3
condition_embedder.image_embedder.norm2           img_emb.proj.4
proj_out                                          head.head
face_adapter.*.to_q                               face_adapter.fuser_blocks.*.linear1_q
face_adapter.*.to_k                               face_adapter.fuser_blocks.*.linear1_kv  1/2
face_adapter.*.to_v                               face_adapter.fuser_blocks.*.linear1_kv  2/2
face_adapter.*.to_out                             face_adapter.fuser_blocks.*.linear2
face_adapter.*.norm_q                             face_adapter.fuser_blocks.*.q_norm
face_adapter.*.norm_k                             face_adapter.fuser_blocks.*.k_norm
face_encoder.conv1_local                          face_encoder.conv1_local.conv
face_encoder.conv2                                face_encoder.conv2.conv
face_encoder.conv3                                face_encoder.conv3.conv
"""

# lines that HunyuanVideo does not share with Flux
_HUNYUAN = """
context_embedder.proj_in                                            txt_in.input_embedder
context_embedder.time_text_embed.timestep_embedder.linear_1         txt_in.t_embedder.in_layer
context_embedder.time_text_embed.timestep_embedder.linear_2         txt_in.t_embedder.out_layer
context_embedder.time_text_embed.text_embedder.linear_1             txt_in.c_embedder.in_layer
context_embedder.time_text_embed.text_embedder.linear_2             txt_in.c_embedder.out_layer
context_embedder.token_refiner.refiner_blocks.*.attn.to_q           txt_in.individual_token_refiner.blocks.*.self_attn.qkv  1/3
context_embedder.token_refiner.refiner_blocks.*.attn.to_k           txt_in.individual_token_refiner.blocks.*.self_attn.qkv  2/3
context_embedder.token_refiner.refiner_blocks.*.attn.to_v           txt_in.individual_token_refiner.blocks.*.self_attn.qkv  3/3
context_embedder.token_refiner.refiner_blocks.*.attn.to_out.0       txt_in.individual_token_refiner.blocks.*.self_attn.proj
context_embedder.token_refiner.refiner_blocks.*.ff.net.0.proj       txt_in.individual_token_refiner.blocks.*.mlp.0
context_embedder.token_refiner.refiner_blocks.*.ff.net.2            txt_in.individual_token_refiner.blocks.*.mlp.2
context_embedder.token_refiner.refiner_blocks.*.norm_out.linear     txt_in.individual_token_refiner.blocks.*.adaLN_modulation.1
context_embedder.token_refiner.refiner_blocks.*.norm1               txt_in.individual_token_refiner.blocks.*.norm1
context_embedder.token_refiner.refiner_blocks.*.norm2               txt_in.individual_token_refiner.blocks.*.norm2
x_embedder.proj                                                     img_in.proj
image_embedder.norm_in                                              vision_in.proj.0
image_embedder.linear_1                                             vision_in.proj.1
image_embedder.linear_2                                             vision_in.proj.3
image_embedder.norm_out                                             vision_in.proj.4
context_embedder_2.norm                                             byt5_in.layernorm
context_embedder_2.linear_1                                         byt5_in.fc1
context_embedder_2.linear_2                                         byt5_in.fc2
context_embedder_2.linear_3                                         byt5_in.fc3
txt_in.t_embedder.mlp.0                                             txt_in.t_embedder.in_layer
txt_in.t_embedder.mlp.2                                             txt_in.t_embedder.out_layer
txt_in.c_embedder.linear_1                                          txt_in.c_embedder.in_layer
txt_in.c_embedder.linear_2                                          txt_in.c_embedder.out_layer
txt_in.individual_token_refiner.blocks.*.mlp.fc1                    txt_in.individual_token_refiner.blocks.*.mlp.0
txt_in.individual_token_refiner.blocks.*.mlp.fc2                    txt_in.individual_token_refiner.blocks.*.mlp.2
time_in.mlp.0                                                       time_in.in_layer
time_in.mlp.2                                                       time_in.out_layer
guidance_in.mlp.0                                                   guidance_in.in_layer
guidance_in.mlp.2                                                   guidance_in.out_layer
double_blocks.*.img_mod.linear                                      double_blocks.*.img_mod.lin
double_blocks.*.txt_mod.linear                                      double_blocks.*.txt_mod.lin
double_blocks.*.img_mlp.fc1                                         double_blocks.*.img_mlp.0
double_blocks.*.img_mlp.fc2                                         double_blocks.*.img_mlp.2
double_blocks.*.txt_mlp.fc1                                         double_blocks.*.txt_mlp.0
double_blocks.*.txt_mlp.fc2                                         double_blocks.*.txt_mlp.2
double_blocks.*.img_attn_q                                          double_blocks.*.img_attn.qkv  1/3
double_blocks.*.img_attn_k                                          double_blocks.*.img_attn.qkv  2/3
double_blocks.*.img_attn_v                                          double_blocks.*.img_attn.qkv  3/3
double_blocks.*.txt_attn_q                                          double_blocks.*.txt_attn.qkv  1/3
double_blocks.*.txt_attn_k                                          double_blocks.*.txt_attn.qkv  2/3
double_blocks.*.txt_attn_v                                          double_blocks.*.txt_attn.qkv  3/3
single_blocks.*.modulation.linear                                   single_blocks.*.modulation.lin
double_blocks.*.img_mlp.fc0                                         double_blocks.*.img_mlp.0
double_blocks.*.txt_mlp.fc0                                         double_blocks.*.txt_mlp.0
txt_in.t_embedder.linear_1                                          txt_in.t_embedder.in_layer
txt_in.t_embedder.linear_2                                          txt_in.t_embedder.out_layer
txt_in.individual_token_refiner.blocks.*.mlp.fc0                    txt_in.individual_token_refiner.blocks.*.mlp.0
txt_in.individual_token_refiner.blocks.*.self_attn_qkv              txt_in.individual_token_refiner.blocks.*.self_attn.qkv
txt_in.individual_token_refiner.blocks.*.self_attn_proj             txt_in.individual_token_refiner.blocks.*.self_attn.proj
"""
_HUNYUAN += THIRDS.format("double_blocks.*.img_attn_qkv", "double_blocks.*.img_attn.qkv")
_HUNYUAN += THIRDS.format("double_blocks.*.txt_attn_qkv", "double_blocks.*.txt_attn.qkv")
_REFINED = "txt_in.individual_token_refiner.blocks.*.self_attn"
_HUNYUAN += THIRDS.format(f"{_REFINED}_qkv", f"{_REFINED}.qkv")

_MOCHI = """
transformer_blocks.*.attn1.to_q                blocks.*.attn.qkv_x  1/3
transformer_blocks.*.attn1.to_k                blocks.*.attn.qkv_x  2/3
transformer_blocks.*.attn1.to_v                blocks.*.attn.qkv_x  3/3
transformer_blocks.*.attn1.add_q_proj          blocks.*.attn.qkv_y  1/3
transformer_blocks.*.attn1.add_k_proj          blocks.*.attn.qkv_y  2/3
transformer_blocks.*.attn1.add_v_proj          blocks.*.attn.qkv_y  3/3
transformer_blocks.*.attn1.to_out.0            blocks.*.attn.proj_x
transformer_blocks.*.attn1.to_add_out          blocks.*.attn.proj_y
transformer_blocks.*.attn1.norm_q              blocks.*.attn.q_norm_x
transformer_blocks.*.attn1.norm_k              blocks.*.attn.k_norm_x
transformer_blocks.*.attn1.norm_added_q        blocks.*.attn.q_norm_y
transformer_blocks.*.attn1.norm_added_k        blocks.*.attn.k_norm_y
transformer_blocks.*.norm1.linear              blocks.*.mod_x
transformer_blocks.*.norm1_context.linear      blocks.*.mod_y
transformer_blocks.*.norm1_context.linear_1    blocks.*.mod_y
transformer_blocks.*.ff.net.0.proj             blocks.*.mlp_x.w1  swap
transformer_blocks.*.ff.net.2                  blocks.*.mlp_x.w2
transformer_blocks.*.ff_context.net.0.proj     blocks.*.mlp_y.w1  swap
transformer_blocks.*.ff_context.net.2          blocks.*.mlp_y.w2
patch_embed.proj                               x_embedder.proj
time_embed.timestep_embedder.linear_1          t_embedder.mlp.0
time_embed.timestep_embedder.linear_2          t_embedder.mlp.2
time_embed.pooler.to_kv                        t5_y_embedder.to_kv
time_embed.pooler.to_q                         t5_y_embedder.to_q
time_embed.pooler.to_out                       t5_y_embedder.to_out
time_embed.caption_proj                        t5_yproj
norm_out.linear                                final_layer.mod  swap
proj_out                                       final_layer.linear
"""

_LTX = """
proj_in                                                      patchify_proj
audio_proj_in                                                audio_patchify_proj
time_embed.linear                                            adaln_single.linear
time_embed.emb.timestep_embedder.linear_1                    adaln_single.emb.timestep_embedder.linear_1
time_embed.emb.timestep_embedder.linear_2                    adaln_single.emb.timestep_embedder.linear_2
audio_time_embed.linear                                      audio_adaln_single.linear
audio_time_embed.emb.timestep_embedder.linear_1              audio_adaln_single.emb.timestep_embedder.linear_1
audio_time_embed.emb.timestep_embedder.linear_2              audio_adaln_single.emb.timestep_embedder.linear_2
"""
_LTX_MODULATION = """
{0}.linear                             {1}.linear
{0}.emb.timestep_embedder.linear_1     {1}.emb.timestep_embedder.linear_1
{0}.emb.timestep_embedder.linear_2     {1}.emb.timestep_embedder.linear_2
"""
_LTX_MODULATIONS = {
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
}
_LTX_NORMS = """
transformer_blocks.*.{0}.norm_q    transformer_blocks.*.{0}.q_norm
transformer_blocks.*.{0}.norm_k    transformer_blocks.*.{0}.k_norm
"""
_LTX_ATTENTIONS = ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")

_COSMOS = """
transformer_blocks.*.attn1.to_q         blocks.block*.blocks.0.block.attn.to_q.0
transformer_blocks.*.attn1.to_k         blocks.block*.blocks.0.block.attn.to_k.0
transformer_blocks.*.attn1.to_v         blocks.block*.blocks.0.block.attn.to_v.0
transformer_blocks.*.attn1.to_out.0     blocks.block*.blocks.0.block.attn.to_out.0
transformer_blocks.*.attn1.norm_q       blocks.block*.blocks.0.block.attn.to_q.1
transformer_blocks.*.attn1.norm_k       blocks.block*.blocks.0.block.attn.to_k.1
transformer_blocks.*.attn2.to_q         blocks.block*.blocks.1.block.attn.to_q.0
transformer_blocks.*.attn2.to_k         blocks.block*.blocks.1.block.attn.to_k.0
transformer_blocks.*.attn2.to_v         blocks.block*.blocks.1.block.attn.to_v.0
transformer_blocks.*.attn2.to_out.0     blocks.block*.blocks.1.block.attn.to_out.0
transformer_blocks.*.attn2.norm_q       blocks.block*.blocks.1.block.attn.to_q.1
transformer_blocks.*.attn2.norm_k       blocks.block*.blocks.1.block.attn.to_k.1
transformer_blocks.*.ff.net.0.proj      blocks.block*.blocks.2.block.layer1
transformer_blocks.*.ff.net.2           blocks.block*.blocks.2.block.layer2
transformer_blocks.*.norm1.linear_1     blocks.block*.blocks.0.adaLN_modulation.1
transformer_blocks.*.norm1.linear_2     blocks.block*.blocks.0.adaLN_modulation.2
transformer_blocks.*.norm2.linear_1     blocks.block*.blocks.1.adaLN_modulation.1
transformer_blocks.*.norm2.linear_2     blocks.block*.blocks.1.adaLN_modulation.2
transformer_blocks.*.norm3.linear_1     blocks.block*.blocks.2.adaLN_modulation.1
transformer_blocks.*.norm3.linear_2     blocks.block*.blocks.2.adaLN_modulation.2
patch_embed.proj                        x_embedder.proj.1
proj_out                                final_layer.linear
time_embed.t_embedder.linear_1          t_embedder.1.linear_1
time_embed.t_embedder.linear_2          t_embedder.1.linear_2
time_embed.norm                         affline_norm
norm_out.linear_1                       final_layer.adaLN_modulation.1
norm_out.linear_2                       final_layer.adaLN_modulation.2
"""

_COGVIDEOX = """
transformer_blocks.*.attn1.to_q         blocks.*.q
transformer_blocks.*.attn1.to_k         blocks.*.k
transformer_blocks.*.attn1.to_v         blocks.*.v
transformer_blocks.*.attn1.to_out.0     blocks.*.attn_out
transformer_blocks.*.attn1.norm_q       blocks.*.norm_q
transformer_blocks.*.attn1.norm_k       blocks.*.norm_k
transformer_blocks.*.ff.net.0.proj      blocks.*.ff_proj
transformer_blocks.*.ff.net.2           blocks.*.ff_out
transformer_blocks.*.norm1.linear       blocks.*.norm1.linear
transformer_blocks.*.norm2.linear       blocks.*.norm2.linear
"""

_MINIMAX_H3 = """
transformer_blocks.*.attn.to_q            blocks.*.attn.qkv_proj  1/3
transformer_blocks.*.attn.to_k            blocks.*.attn.qkv_proj  2/3
transformer_blocks.*.attn.to_v            blocks.*.attn.qkv_proj  3/3
transformer_blocks.*.attn.to_out.0        blocks.*.attn.out_proj
transformer_blocks.*.attn.norm_q          blocks.*.attn.q_norm
transformer_blocks.*.attn.norm_k          blocks.*.attn.k_norm
transformer_blocks.*.ff.net.0.proj        blocks.*.mlp.fc1  swap
transformer_blocks.*.ff.net.2             blocks.*.mlp.fc2
token_refiner.refiner_blocks.*.attn.to_q         token_refiner.blocks.*.attn.qkv_proj  1/3
token_refiner.refiner_blocks.*.attn.to_k         token_refiner.blocks.*.attn.qkv_proj  2/3
token_refiner.refiner_blocks.*.attn.to_v         token_refiner.blocks.*.attn.qkv_proj  3/3
token_refiner.refiner_blocks.*.attn.to_out.0     token_refiner.blocks.*.attn.out_proj
token_refiner.refiner_blocks.*.ff.net.0.proj     token_refiner.blocks.*.mlp.fc1  swap
token_refiner.refiner_blocks.*.ff.net.2          token_refiner.blocks.*.mlp.fc2
transformer_blocks.*.adaln_proj.linear    blocks.*.adaln_proj.linear
transformer_blocks.*.norm1                blocks.*.norm1
transformer_blocks.*.norm2                blocks.*.norm2
token_refiner.refiner_blocks.*.norm1             token_refiner.blocks.*.norm1
token_refiner.refiner_blocks.*.norm2             token_refiner.blocks.*.norm2
token_refiner.refiner_blocks.*.attn.norm_q       token_refiner.blocks.*.attn.q_norm
token_refiner.refiner_blocks.*.attn.norm_k       token_refiner.blocks.*.attn.k_norm
norm_out.norm                             final_layer.norm
time_embedder.linear_1                    time_embedder.proj_in
time_embedder.linear_2                    time_embedder.proj_out
proj_in                                   video_patch_proj
audio_proj_in                             audio_patch_proj
context_embedder                          condition_proj
norm_out.linear                           final_layer.adaln_proj.linear
proj_out                                  final_layer.video_out
audio_proj_out                            final_layer.audio_out
"""

for _theirs, _ours in _LTX_MODULATIONS.items():
    _LTX += _LTX_MODULATION.format(_theirs, _ours)
_LTX += repeated(_LTX_NORMS, *_LTX_ATTENTIONS)

_SVD_RESNET = """
{0}.spatial_res_block.norm1          {1}.in_layers.0
{0}.spatial_res_block.conv1          {1}.in_layers.2
{0}.spatial_res_block.time_emb_proj  {1}.emb_layers.1
{0}.spatial_res_block.norm2          {1}.out_layers.0
{0}.spatial_res_block.conv2          {1}.out_layers.3
{0}.spatial_res_block.conv_shortcut  {1}.skip_connection
{0}.temporal_res_block.norm1         {1}.time_stack.in_layers.0
{0}.temporal_res_block.conv1         {1}.time_stack.in_layers.2
{0}.temporal_res_block.time_emb_proj {1}.time_stack.emb_layers.1
{0}.temporal_res_block.norm2         {1}.time_stack.out_layers.0
{0}.temporal_res_block.conv2         {1}.time_stack.out_layers.3
"""
_SVD_ATTENTION = ""
for _name in (
    *("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
    *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    *("ff_in.net.0.proj", "ff_in.net.2", "ff.net.0.proj", "ff.net.2"),
    *("norm_in", "norm1", "norm2", "norm3"),
):
    _SVD_ATTENTION += f"{{0}}.temporal_transformer_blocks.*.{_name} {{1}}.time_stack.*.{_name}\n"
_SVD_ATTENTION += """
{0}.time_pos_embed.linear_1 {1}.time_pos_embed.0
{0}.time_pos_embed.linear_2 {1}.time_pos_embed.2
"""
_SVD_PLACES = {"mid_block.{0}s.0": "middle_block"}
for _n in (0, 1, 3, 4, 6, 7, 9, 10):  # each third block down makes the picture smaller
    _SVD_PLACES[f"down_blocks.{_n // 3}.{{0}}s.{_n % 3}"] = f"input_blocks.{_n + 1}"
for _n in range(12):
    _SVD_PLACES[f"up_blocks.{_n // 3}.{{0}}s.{_n % 3}"] = f"output_blocks.{_n}"
_SVD = _SVD_RESNET.format("mid_block.resnets.1", "middle_block.2")
for _theirs, _ours in _SVD_PLACES.items():
    _SVD += _SVD_RESNET.format(_theirs.format("resnet"), f"{_ours}.0")
    _SVD += _SVD_ATTENTION.format(_theirs.format("attention"), f"{_ours}.1")

VIDEO = {
    "input_blocks.1.0.time_stack.in_layers.2": _SVD,
    "blocks.0.self_attn.q": _WAN + repeated(_WAN_BLOCK, "blocks", "vace_blocks"),
    "txt_in.individual_token_refiner.blocks.0.self_attn.qkv": _HUNYUAN,
    "double_blocks.0.img_attn.qkv": _HUNYUAN,
    "blocks.0.attn.qkv_x": _MOCHI,
    "patchify_proj": _LTX,
    "blocks.block0.blocks.0.block.attn.to_q.0": _COSMOS,
    "blocks.0.ff_proj": _COGVIDEOX,
    "blocks.0.attn.qkv_proj": _MINIMAX_H3,
}
