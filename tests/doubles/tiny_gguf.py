"""A GGUF file of a few kilobytes: a Llama of one layer and no tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_gguf(path: Path, vocabulary: int = 40, seed: int | None = None) -> Path:
    """Writes it; every weight is 0.5, or random with a seed."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(48)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (vocabulary, 32), "output": (vocabulary, 32)}
    shapes |= {"output_norm": (32,), "blk.0.ffn_gate": (48, 32), "blk.0.ffn_up": (48, 32), "blk.0.ffn_down": (32, 48)}
    shapes |= {f"blk.0.{name}": (32, 32) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{name}": (32,) for name in ("attn_norm", "ffn_norm")}
    rng = np.random.default_rng(seed)
    for name, shape in shapes.items():
        weights = np.full(shape, 0.5) if seed is None else rng.normal(size=shape)
        writer.add_tensor(f"{name}.weight", weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
