"""Other programs' names of layers in image models, by a layer that the model has. What a line says: aliases.py."""


def repeated(lines: str, *parts: str) -> str:
    """Lines once for each part, which stands in them as {0}."""
    return "".join(map(lines.format, parts))


# OneTrainer's OMI format: the parts of a fused layer behind another path, or its own
THIRDS = """
{0}.0    {1}  1/3
{0}.1    {1}  2/3
{0}.2    {1}  3/3
"""
OWN_THIRDS = THIRDS.replace("{1}", "{0}")

NORM_OUT = """
norm_out.linear  final_layer.adaLN_modulation.1  swap
"""

SD3 = """
transformer_blocks.*.norm1_context.linear    joint_blocks.*.context_block.adaLN_modulation.1  last
"""

AURAFLOW = """
norm_out.linear  modF.1  swap
"""

SD3_IN_OMI = repeated(
    OWN_THIRDS,
    "joint_blocks.*.x_block.attn.qkv",
    "joint_blocks.*.x_block.attn2.qkv",
    "joint_blocks.*.context_block.attn.qkv",
)

PIXART_IN_OMI = (
    repeated(OWN_THIRDS, "blocks.*.attn.qkv")
    + """
blocks.*.cross_attn.kv_linear.0  blocks.*.cross_attn.kv_linear  1/2
blocks.*.cross_attn.kv_linear.1  blocks.*.cross_attn.kv_linear  2/2
"""
)

FLUX_IN_OMI = (
    repeated(OWN_THIRDS, "double_blocks.*.img_attn.qkv", "double_blocks.*.txt_attn.qkv")
    + """
single_blocks.*.linear1.0  single_blocks.*.linear1  q
single_blocks.*.linear1.1  single_blocks.*.linear1  k
single_blocks.*.linear1.2  single_blocks.*.linear1  v
single_blocks.*.linear1.3  single_blocks.*.linear1  mlp
img_in.proj                img_in
"""
)

FLUX = """
transformer_blocks.*.attn.to_q               double_blocks.*.img_attn.qkv  1/3
transformer_blocks.*.attn.to_k               double_blocks.*.img_attn.qkv  2/3
transformer_blocks.*.attn.to_v               double_blocks.*.img_attn.qkv  3/3
transformer_blocks.*.attn.add_q_proj         double_blocks.*.txt_attn.qkv  1/3
transformer_blocks.*.attn.add_k_proj         double_blocks.*.txt_attn.qkv  2/3
transformer_blocks.*.attn.add_v_proj         double_blocks.*.txt_attn.qkv  3/3
transformer_blocks.*.attn.to_out.0           double_blocks.*.img_attn.proj
transformer_blocks.*.attn.to_add_out         double_blocks.*.txt_attn.proj
transformer_blocks.*.norm1.linear            double_blocks.*.img_mod.lin
transformer_blocks.*.norm1_context.linear    double_blocks.*.txt_mod.lin
transformer_blocks.*.ff.net.0.proj           double_blocks.*.img_mlp.0
transformer_blocks.*.ff.net.2                double_blocks.*.img_mlp.2
transformer_blocks.*.ff_context.net.0.proj   double_blocks.*.txt_mlp.0
transformer_blocks.*.ff_context.net.2        double_blocks.*.txt_mlp.2
transformer_blocks.*.ff.linear_in            double_blocks.*.img_mlp.0
transformer_blocks.*.ff.linear_out           double_blocks.*.img_mlp.2
transformer_blocks.*.ff_context.linear_in    double_blocks.*.txt_mlp.0
transformer_blocks.*.ff_context.linear_out   double_blocks.*.txt_mlp.2
transformer_blocks.*.attn.norm_q             double_blocks.*.img_attn.norm.query_norm
transformer_blocks.*.attn.norm_k             double_blocks.*.img_attn.norm.key_norm
transformer_blocks.*.attn.norm_added_q       double_blocks.*.txt_attn.norm.query_norm
transformer_blocks.*.attn.norm_added_k       double_blocks.*.txt_attn.norm.key_norm
single_transformer_blocks.*.attn.to_q        single_blocks.*.linear1  q
single_transformer_blocks.*.attn.to_k        single_blocks.*.linear1  k
single_transformer_blocks.*.attn.to_v        single_blocks.*.linear1  v
single_transformer_blocks.*.proj_mlp         single_blocks.*.linear1  mlp
single_transformer_blocks.*.attn.to_qkv_mlp_proj  single_blocks.*.linear1
single_transformer_blocks.*.proj_out         single_blocks.*.linear2
single_transformer_blocks.*.attn.to_out      single_blocks.*.linear2
single_transformer_blocks.*.norm.linear      single_blocks.*.modulation.lin
single_transformer_blocks.*.attn.norm_q      single_blocks.*.norm.query_norm
single_transformer_blocks.*.attn.norm_k      single_blocks.*.norm.key_norm
x_embedder                                   img_in
context_embedder                             txt_in
proj_out                                     final_layer.linear
time_text_embed.timestep_embedder.linear_1   time_in.in_layer
time_text_embed.timestep_embedder.linear_2   time_in.out_layer
time_text_embed.guidance_embedder.linear_1   guidance_in.in_layer
time_text_embed.guidance_embedder.linear_2   guidance_in.out_layer
time_text_embed.text_embedder.linear_1       vector_in.in_layer
time_text_embed.text_embedder.linear_2       vector_in.out_layer
time_embed.timestep_embedder.linear_1        time_in.in_layer
time_embed.timestep_embedder.linear_2        time_in.out_layer
timestep_embedder.linear_1                   time_in.in_layer
timestep_embedder.linear_2                   time_in.out_layer
context_embedder_norm                        txt_norm
transformer_blocks.*.ff.net.2                double_blocks.*.img_mlp.down_proj
transformer_blocks.*.ff_context.net.2        double_blocks.*.txt_mlp.down_proj
time_guidance_embed.timestep_embedder.linear_1  time_in.in_layer
time_guidance_embed.timestep_embedder.linear_2  time_in.out_layer
time_guidance_embed.guidance_embedder.linear_1  guidance_in.in_layer
time_guidance_embed.guidance_embedder.linear_2  guidance_in.out_layer
double_stream_modulation_img.linear          double_stream_modulation_img.lin
double_stream_modulation_txt.linear          double_stream_modulation_txt.lin
single_stream_modulation.linear              single_stream_modulation.lin
distilled_guidance_layer.layers.*.linear_1   distilled_guidance_layer.layers.*.in_layer
distilled_guidance_layer.layers.*.linear_2   distilled_guidance_layer.layers.*.out_layer
"""

FLUX_IN_DIFFSYNTH = """
blocks.*.norm1_a.linear        double_blocks.*.img_mod.lin
blocks.*.norm1_b.linear        double_blocks.*.txt_mod.lin
blocks.*.attn.a_to_qkv         double_blocks.*.img_attn.qkv
blocks.*.attn.b_to_qkv         double_blocks.*.txt_attn.qkv
blocks.*.attn.a_to_out         double_blocks.*.img_attn.proj
blocks.*.attn.b_to_out         double_blocks.*.txt_attn.proj
blocks.*.ff_a.0                double_blocks.*.img_mlp.0
blocks.*.ff_a.2                double_blocks.*.img_mlp.2
blocks.*.ff_b.0                double_blocks.*.txt_mlp.0
blocks.*.ff_b.2                double_blocks.*.txt_mlp.2
single_blocks.*.norm.linear    single_blocks.*.modulation.lin
single_blocks.*.to_qkv_mlp     single_blocks.*.linear1
single_blocks.*.proj_out       single_blocks.*.linear2
"""

# XLabs' and USO's attention processors
FLUX_PROCESSORS = """
double_blocks.*.processor.qkv_lora1    double_blocks.*.img_attn.qkv
double_blocks.*.processor.qkv_lora2    double_blocks.*.txt_attn.qkv
double_blocks.*.processor.proj_lora1   double_blocks.*.img_attn.proj
double_blocks.*.processor.proj_lora2   double_blocks.*.txt_attn.proj
single_blocks.*.processor.qkv_lora     single_blocks.*.linear1  qkv
single_blocks.*.processor.proj_lora    single_blocks.*.linear2
single_blocks.*.processor.qkv          single_blocks.*.linear1  qkv
single_blocks.*.processor.proj         single_blocks.*.linear2
single_blocks.*.linear1_qkv            single_blocks.*.linear1  qkv
"""

# Z-Image has no grouped queries; its names are Lumina's with `attention` for `attn`
LUMINA = """
{0}.*.attn.to_q             {0}.*.attention.qkv  q
{0}.*.attn.to_k             {0}.*.attention.qkv  k
{0}.*.attn.to_v             {0}.*.attention.qkv  v
{0}.*.attn.to_out.0         {0}.*.attention.out
{0}.*.attn.norm_q           {0}.*.attention.q_norm
{0}.*.attn.norm_k           {0}.*.attention.k_norm
{0}.*.attention.to_q        {0}.*.attention.qkv  q
{0}.*.attention.to_k        {0}.*.attention.qkv  k
{0}.*.attention.to_v        {0}.*.attention.qkv  v
{0}.*.attention.to_out.0    {0}.*.attention.out
{0}.*.attention.norm_q      {0}.*.attention.q_norm
{0}.*.attention.norm_k      {0}.*.attention.k_norm
{0}.*.feed_forward.linear_1 {0}.*.feed_forward.w1
{0}.*.feed_forward.linear_2 {0}.*.feed_forward.w2
{0}.*.feed_forward.linear_3 {0}.*.feed_forward.w3
{0}.*.norm1.linear          {0}.*.adaLN_modulation.1
{0}.*.norm1.norm            {0}.*.attention_norm1
{0}.*.norm1                 {0}.*.attention_norm1
{0}.*.norm2                 {0}.*.attention_norm2
"""
LUMINA_REST = """
norm_out.linear_1                                    final_layer.adaLN_modulation.1
norm_out.linear_2                                    final_layer.linear
time_caption_embed.caption_embedder.*                cap_embedder.*
time_caption_embed.timestep_embedder.linear_1        t_embedder.mlp.0
time_caption_embed.timestep_embedder.linear_2        t_embedder.mlp.2
all_final_layer.2-1.linear                           final_layer.linear
all_final_layer.2-1.adaLN_modulation.1               final_layer.adaLN_modulation.1
all_x_embedder.2-1                                   x_embedder
"""

HUNYUAN_DIT = """
blocks.*.attn1.to_q                          blocks.*.attn1.Wqkv  1/3
blocks.*.attn1.to_k                          blocks.*.attn1.Wqkv  2/3
blocks.*.attn1.to_v                          blocks.*.attn1.Wqkv  3/3
blocks.*.attn1.to_out.0                      blocks.*.attn1.out_proj
blocks.*.attn2.to_q                          blocks.*.attn2.q_proj
blocks.*.attn2.to_k                          blocks.*.attn2.kv_proj  1/2
blocks.*.attn2.to_v                          blocks.*.attn2.kv_proj  2/2
blocks.*.attn2.to_out.0                      blocks.*.attn2.out_proj
blocks.*.ff.net.0.proj                       blocks.*.mlp.fc1
blocks.*.ff.net.2                            blocks.*.mlp.fc2
blocks.*.norm1.linear                        blocks.*.default_modulation.1
time_extra_emb.timestep_embedder.linear_1    t_embedder.mlp.0
time_extra_emb.timestep_embedder.linear_2    t_embedder.mlp.2
time_extra_emb.extra_embedder.linear_1       extra_embedder.0
time_extra_emb.extra_embedder.linear_2       extra_embedder.2
text_embedder.linear_1                       mlp_t5.0
text_embedder.linear_2                       mlp_t5.2
time_extra_emb.pooler.k_proj                 pooler.k_proj
time_extra_emb.pooler.q_proj                 pooler.q_proj
time_extra_emb.pooler.v_proj                 pooler.v_proj
time_extra_emb.pooler.c_proj                 pooler.c_proj
pos_embed.proj                               x_embedder.proj
norm_out.linear                              final_layer.adaLN_modulation.1  swap
proj_out                                     final_layer.linear
"""

CASCADE = """
{0}.*.*.attention.to_q        {0}.*.*.attention.attn.to_q
{0}.*.*.attention.to_k        {0}.*.*.attention.attn.to_k
{0}.*.*.attention.to_v        {0}.*.*.attention.attn.to_v
{0}.*.*.attention.to_out.0    {0}.*.*.attention.attn.out_proj
{0}.*.*.attention.attn.in_proj.0    {0}.*.*.attention.attn.to_q
{0}.*.*.attention.attn.in_proj.1    {0}.*.*.attention.attn.to_k
{0}.*.*.attention.attn.in_proj.2    {0}.*.*.attention.attn.to_v
clip_txt_pooled_mapper        clip_mapper
"""

IDEOGRAM = """
layers.*.attention.to_q       layers.*.attention.qkv  1/3
layers.*.attention.to_k       layers.*.attention.qkv  2/3
layers.*.attention.to_v       layers.*.attention.qkv  3/3
layers.*.attention.to_out.0   layers.*.attention.o
"""

COSMOS_PREDICT2 = """
transformer_blocks.*.attn1.to_q         blocks.*.self_attn.q_proj
transformer_blocks.*.attn1.to_k         blocks.*.self_attn.k_proj
transformer_blocks.*.attn1.to_v         blocks.*.self_attn.v_proj
transformer_blocks.*.attn1.to_out.0     blocks.*.self_attn.output_proj
transformer_blocks.*.attn1.norm_q       blocks.*.self_attn.q_norm
transformer_blocks.*.attn1.norm_k       blocks.*.self_attn.k_norm
transformer_blocks.*.attn2.to_q         blocks.*.cross_attn.q_proj
transformer_blocks.*.attn2.to_k         blocks.*.cross_attn.k_proj
transformer_blocks.*.attn2.to_v         blocks.*.cross_attn.v_proj
transformer_blocks.*.attn2.to_out.0     blocks.*.cross_attn.output_proj
transformer_blocks.*.attn2.norm_q       blocks.*.cross_attn.q_norm
transformer_blocks.*.attn2.norm_k       blocks.*.cross_attn.k_norm
transformer_blocks.*.ff.net.0.proj      blocks.*.mlp.layer1
transformer_blocks.*.ff.net.2           blocks.*.mlp.layer2
transformer_blocks.*.norm1.linear_1     blocks.*.adaln_modulation_self_attn.1
transformer_blocks.*.norm1.linear_2     blocks.*.adaln_modulation_self_attn.2
transformer_blocks.*.norm2.linear_1     blocks.*.adaln_modulation_cross_attn.1
transformer_blocks.*.norm2.linear_2     blocks.*.adaln_modulation_cross_attn.2
transformer_blocks.*.norm3.linear_1     blocks.*.adaln_modulation_mlp.1
transformer_blocks.*.norm3.linear_2     blocks.*.adaln_modulation_mlp.2
time_embed.t_embedder.linear_1          t_embedder.1.linear_1
time_embed.t_embedder.linear_2          t_embedder.1.linear_2
time_embed.norm                         t_embedding_norm
patch_embed.proj                        x_embedder.proj.1
proj_out                                final_layer.linear
norm_out.linear_1                       final_layer.adaln_modulation.1
norm_out.linear_2                       final_layer.adaln_modulation.2
"""

IMAGE = {
    "joint_blocks.0.x_block.attn.qkv": NORM_OUT + SD3 + SD3_IN_OMI,
    "blocks.0.cross_attn.kv_linear": PIXART_IN_OMI,
    "modF.1": AURAFLOW,
    "double_blocks.0.img_attn.qkv": NORM_OUT + FLUX + FLUX_IN_DIFFSYNTH + FLUX_PROCESSORS + FLUX_IN_OMI,
    "cap_embedder.1": LUMINA_REST + repeated(LUMINA, "layers", "noise_refiner", "context_refiner"),
    "layers.0.attention.o": IDEOGRAM,
    "blocks.0.attn1.Wqkv": HUNYUAN_DIT,
    "clip_txt_pooled_mapper": repeated(CASCADE, "down_blocks", "up_blocks"),
    "clip_mapper": repeated(CASCADE, "down_blocks", "up_blocks"),
    "blocks.0.self_attn.output_proj": COSMOS_PREDICT2,
}
