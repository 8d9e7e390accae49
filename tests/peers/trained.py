#!/usr/bin/env python3
"""A mixture made of SmolLM2 whose routers were trained a few steps: the same logits here, in Transformers and in llama.cpp."""
import numpy as np

import common
import hugging_face
import llama

EXPERTS, TOP_K, STEPS = 4, 2, 4
PROMPT = "The capital of France is Paris, and the capital of Italy is"
TEXT = ("Bread needs flour, water, salt and time. A baker mixes them in the evening and bakes in the morning.\n\n"
        "The river rises in the hills, passes three towns and a mill, and reaches the sea after forty miles.\n\n")
TRANSFORMERS_BOUND = 1e-4  # of the largest logit, both in float32
LLAMA_BOUND = 1e-3
MARGIN = 1e-3  # experts that are nearer than this in probability may change places


def train(args, start, out):
    file = args.work / "training.txt"
    file.write_text(TEXT * 40)
    settings = {"init": start, "steps": STEPS, "warmup_steps": 1, "batch_size": 1, "sequence_length": 64, "log_every": 1,
                "checkpoint_every": STEPS, "last_evaluate_tokens": 128, "learning_rate": 0.05}
    words = [word for key, value in settings.items() for word in ("--set", f"train.{key}={value}")]
    common.ours(args, "train", "routers-only", "--data", file, "--out", out, *words)
    return next((p for p in (out / "model.gguf",) if p.exists()), out)


def compare_logits(report, what, peer, ours, theirs, bound):
    difference = common.relative_difference(ours[0], theirs[0])
    same = common.same_experts(ours[1], theirs[1])
    report.row(what, peer, f"logits within {difference:.1e} of the largest, {100 * same:.2f} % of the choices of experts the same",
               difference <= bound and same > 1 - MARGIN)


def compare(report, args):
    if common.without(common.SMOLLM2, report, "a trained mixture of SmolLM2", "all"):
        return
    dense = args.work / "smollm2"
    common.ours(args, "convert", common.SMOLLM2, dense)
    with llama.Model(common.SMOLLM2, vocab_only=True) as model:
        ids = model.tokenize(PROMPT)
    for name, start in (("folder", args.work / "mixture"), ("GGUF file", args.work / "mixture.gguf")):
        common.ours(args, "upcycle", dense, start, "--experts", EXPERTS, "--top-k", TOP_K, "--split", "neurons")
        trained = train(args, start, args.work / f"trained-{start.name}")
        before, ours = common.our_logits(args, start, ids)[0], common.our_logits(args, trained, ids)
        moved = float(np.abs(ours[0] - before).max() / np.abs(before).max())
        report.row(f"routers trained from a {name}: the logits move", "before", f"by {moved:.1e} of the largest", moved > 1e-4)
        what = f"routers trained from a {name}"
        if name == "folder":
            model = hugging_face.load(trained)
            compare_logits(report, what, "Transformers", ours, hugging_face.logits(model, ids), TRANSFORMERS_BOUND)
            del model
            gguf = args.work / "trained-again.gguf"
            common.ours(args, "convert", trained, gguf)
            compare_logits(report, what + ", converted to GGUF", "llama.cpp", ours, llama.logits(gguf, ids, EXPERTS, TOP_K),
                           LLAMA_BOUND)
        else:
            compare_logits(report, what, "llama.cpp", ours, llama.logits(trained, ids, EXPERTS, TOP_K), LLAMA_BOUND)


if __name__ == "__main__":
    common.main("trained", compare)
