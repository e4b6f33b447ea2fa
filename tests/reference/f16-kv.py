# How far rounding K and V to half precision alone moves the logits of golden cases, computed in float64 (needs numpy):
#   python3 tests/reference/f16-kv.py
import json
import struct

import numpy as np


def load(p):
    d = open(p, "rb").read()
    n = struct.unpack("<Q", d[:8])[0]
    h = json.loads(d[8 : 8 + n])
    out = {}
    for k, v in h.items():
        if k == "__metadata__":
            continue
        raw = d[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]]
        if v["dtype"] == "BF16":
            a = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            a = np.frombuffer(raw, {"F32": np.float32, "I64": np.int64, "F16": np.float16}[v["dtype"]])
        out[k] = a.reshape(v["shape"])
    return out


def run(case, fk, fv):
    d = "tests/golden/" + case
    c = json.load(open(d + "/config.json"))
    w = {k: v.astype(np.float64) for k, v in load(d + "/model.safetensors").items()}
    g = load(d + "/golden.safetensors")
    H = c["num_attention_heads"]
    KV = c["num_key_value_heads"]
    hd = c.get("head_dim") or c["hidden_size"] // H
    L = c["num_hidden_layers"]
    eps = c["rms_norm_eps"]
    rp = c["rope_parameters"]
    inv = 1 / rp["rope_theta"] ** (np.arange(0, hd, 2) / hd)
    if rp["rope_type"] == "llama3":
        f, lo, hi, o = rp["factor"], rp["low_freq_factor"], rp["high_freq_factor"], rp["original_max_position_embeddings"]
        wl = 2 * np.pi / inv
        sm = (o / wl - lo) / (hi - lo)
        inv = np.where(wl > o / lo, inv / f, np.where(wl < o / hi, inv, (1 - sm) * inv / f + sm * inv))
    ids = g["input_ids"]
    T = len(ids)
    x = w["model.embed_tokens.weight"][ids]
    ang = np.arange(T)[:, None] * inv[None]
    cos, sin = np.cos(ang), np.sin(ang)
    rms = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * g

    def rope(t):
        a, b = t[..., : hd // 2], t[..., hd // 2 :]
        return np.concatenate([a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]], -1)

    for l in range(L):
        p = f"model.layers.{l}."
        n = rms(x, w[p + "input_layernorm.weight"])
        lin = lambda n, name: n @ w[p + name + ".weight"].T + (w[p + name + ".bias"] if p + name + ".bias" in w else 0)
        q = rope(lin(n, "self_attn.q_proj").reshape(T, H, hd))
        k = fk(rope(lin(n, "self_attn.k_proj").reshape(T, KV, hd)))
        v = fv(lin(n, "self_attn.v_proj").reshape(T, KV, hd))
        k = np.repeat(k, H // KV, 1)
        v = np.repeat(v, H // KV, 1)
        s = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(hd) + np.triu(np.full((T, T), -1e30), 1)
        if c.get("sliding_window"):
            s = s + np.tril(np.full((T, T), -1e30), -c["sliding_window"])
        a = np.exp(s - s.max(-1, keepdims=True))
        a /= a.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", a, v).reshape(T, -1) @ w[p + "self_attn.o_proj.weight"].T
        n = rms(x, w[p + "post_attention_layernorm.weight"])
        gt = n @ w[p + "mlp.gate_proj.weight"].T
        up = n @ w[p + "mlp.up_proj.weight"].T
        x = x + (gt / (1 + np.exp(-gt)) * up) @ w[p + "mlp.down_proj.weight"].T
    lg = rms(x, w["model.norm.weight"]) @ (w.get("lm_head.weight", w["model.embed_tokens.weight"])).T
    return np.abs(lg - g["logits"]).max()


h = lambda t: t.astype(np.float32).astype(np.float16).astype(np.float64)
i = lambda t: t
for c in ("qwen2-bias", "llama3-rope-tied", "llama-gqa", "mistral-window"):
    print(c, "exact", run(c, i, i), "k", run(c, h, i), "v", run(c, i, h), "both", run(c, h, h))
