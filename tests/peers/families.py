#!/usr/bin/env python3
"""Every decoder family, both ways: a folder that Transformers wrote, our GGUF of it, and our folder of that again, each
run by us, by Transformers and by llama.cpp; a GGUF file that llama.cpp wrote, run by us; a mixture of ours, by all."""
import numpy as np

import common
import hugging_face
import llama

TRANSFORMERS_BOUND = 5e-5  # of the largest logit: float32 in another order
LLAMA_BOUND = 1e-4

# What llama.cpp computes otherwise, or cannot load, and why.
THEIRS = {
    "mistral, sliding window": "llama.cpp has no windows in its llama architecture",
    "olmoe, clip_qkv": "llama.cpp does not clip",
    "olmoe, fewer key/value heads": "llama.cpp takes the key norm to be as wide as the query's",
    "qwen2_moe, a dense layer": "llama.cpp has one number of experts for all layers",
    "qwen3_moe, weights not normalised": "llama.cpp always divides by their sum",
    "deepseek_v2, 3 layers as V2-Lite's": "llama.cpp takes 26 or 27 layers for the sign of a single query matrix",
    "deepseek_v2, as V2": "llama.cpp ranks groups by their two best experts, Transformers and we by the best",
    "gpt_oss": "llama.cpp rounds the ends of YaRN's ramp to whole dimensions, the model does not",
}


def experts_of(model):
    config = model.config
    for name in ("num_local_experts", "num_experts", "n_routed_experts"):
        if getattr(config, name, None):
            return getattr(config, name), config.num_experts_per_tok
    return 0, 0


def measured(difference, ours, theirs):
    text = f"logits differ by {difference:.1e}"
    if ours or theirs:
        text += f", experts same for {100 * common.same_experts(ours, theirs):.4g} % of the tokens"
    return text


def compare_pair(report, what, peer, bound, ours, theirs, known=None):
    """ours, theirs: (logits, chosen experts)."""
    difference = common.relative_difference(ours[0], theirs[0])
    good = difference <= bound and common.same_experts(ours[1], theirs[1]) == 1
    report.row(what, peer, measured(difference, ours[1], theirs[1]), good, known)


def in_llama(report, what, path, ids, ours, experts, known=None):
    """Our logits against llama.cpp's on one file; whether it loaded."""
    try:
        theirs = llama.logits(path, ids, *experts)
    except llama.LoadError as error:
        report.row(what, "llama.cpp", f"not loaded: {error}", False, known)
        return False
    compare_pair(report, what, "llama.cpp", LLAMA_BOUND, ours, theirs, known)
    return True


def compare_variant(report, args, variant):
    folder = args.work / variant.replace(", ", "-").replace(" ", "-").replace("/", "-")
    model = hugging_face.make(variant)
    model.save_pretrained(folder)
    ids = hugging_face.tokens()
    theirs = hugging_face.logits(model, ids)
    ours = common.our_logits(args, folder, ids)
    compare_pair(report, f"{variant}: their folder", "Transformers", TRANSFORMERS_BOUND, ours, theirs)

    gguf, back, again = f"{folder}.gguf", f"{folder}-back", f"{folder}-again.gguf"
    common.ours(args, "convert", folder, gguf)
    from_gguf = common.our_logits(args, gguf, ids)
    report.row(f"{variant}: our GGUF of it", "ours", "bit for bit" if np.array_equal(ours[0], from_gguf[0]) else
               measured(common.relative_difference(from_gguf[0], ours[0]), from_gguf[1], ours[1]),
               np.array_equal(ours[0], from_gguf[0]))
    loaded = in_llama(report, f"{variant}: our GGUF of it", gguf, ids, ours, experts_of(model), THEIRS.get(variant))

    common.ours(args, "convert", gguf, back)
    returned = hugging_face.logits(hugging_face.load(back), ids)
    compare_pair(report, f"{variant}: our folder of that", "Transformers", 0, returned, theirs)

    if loaded:
        llama.save(gguf, again)
        in_llama(report, f"{variant}: their GGUF of ours", again, ids, common.our_logits(args, again, ids),
                 experts_of(model), THEIRS.get(variant))


def compare_upcycled(report, args):
    """A dense model that became a mixture, in GGUF and as a folder."""
    dense = args.work / "dense"
    hugging_face.make("llama").save_pretrained(dense)
    ids = hugging_face.tokens()
    for split in ("copy", "neurons"):
        what = f"upcycled, {split}"
        folder, gguf = args.work / f"mixture-{split}", args.work / f"mixture-{split}.gguf"
        for out in (folder, gguf):
            common.ours(args, "upcycle", dense, out, "--experts", 4, "--top-k", 2, "--split", split, "--router-init", 1)
        ours = common.our_logits(args, folder, ids)
        compare_pair(report, f"{what}: the folder", "Transformers", TRANSFORMERS_BOUND, ours,
                     hugging_face.logits(hugging_face.load(folder), ids))
        in_llama(report, f"{what}: the GGUF file", gguf, ids, ours, (4, 2))


def compare(report, args):
    for variant in hugging_face.VARIANTS:
        if args.only not in variant:
            continue
        try:
            compare_variant(report, args, variant)
        except common.OurError as error:
            report.row(variant, "ours", f"failed: {error}", False)
    if args.only in "upcycled":
        compare_upcycled(report, args)


if __name__ == "__main__":
    common.main("families", compare)
