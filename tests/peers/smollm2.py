#!/usr/bin/env python3
"""SmolLM2 against llama.cpp: greedy continuations, perplexity, and the files that the two quantisers make."""
import json
import shutil

import gguf
import numpy as np

import common
import llama

PROMPTS = """The capital of France is
Once upon a time there was a little
Water boils at a temperature of
def fibonacci(n):
The three primary colours are
In 1969, the first man
My favourite food is pizza because
The mitochondria is the
To bake a simple bread you need
#include <stdio.h>
The quick brown fox
Photosynthesis is the process by which
Dear Sir or Madam,
The best way to learn a language is
Roses are red, violets are
SELECT name FROM users WHERE
The largest planet of the solar system is
If it rains tomorrow, we will
A prime number is a number that
He opened the door and saw""".split("\n")
CONTINUED = 32  # tokens
WINDOW, WINDOWS = 256, 32
TIE = 0.5  # logits of the two best that are nearer may change places between the packed file's two ways to multiply
F32_TIE = 1e-3
ROUNDS = "llama.cpp rounds what it multiplies packed weights with to 8 bits: its own F32 file of the same values agrees with us"
FILE_TYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}  # mixes, general.file_type
PURE_TYPES = {"q8_0": 7, "q4_0": 2, "q4_k": 14, "q5_k": 16, "q6_k": 18}
PACKED = "ffn_down"
KL_TOKENS = 2048


def first_difference(context, prompt, continued):
    """Where llama.cpp, given our words so far, would have gone on otherwise: (place, its margin), or None."""
    context.forget()
    logits = context.feed(prompt + continued[:-1])[len(prompt) - 1:]
    for place, (row, token) in enumerate(zip(logits, continued, strict=True)):
        best = int(row.argmax())
        if best != token:
            return place, float(row[best] - row[token])
    return None


def compare_greedy(report, args, path, name, tie):
    with llama.Model(path) as model, llama.Context(model, 256) as context:
        differences = []
        for prompt in PROMPTS:
            said = json.loads(common.ours(args, "generate", path, "--prompt", prompt, "--temperature", 0, "--tokens", CONTINUED,
                                          "--no-stop", "--json"))["tokens"]
            found = first_difference(context, model.tokenize(prompt), said)
            if found:
                differences.append((prompt, *found))
    worst = max((margin for _, _, margin in differences), default=0)
    told = f"{len(PROMPTS) - len(differences)} of {len(PROMPTS)} prompts the same for {CONTINUED} tokens"
    if differences:
        told += "; margins at the first other token: " + ", ".join(f"{m:.3g}" for _, _, m in differences)
    report.row(f"greedy tokens, {name}", "llama.cpp", told, worst <= tie)


def negative_log_likelihoods(context, windows):
    """Of each token of the windows (lists of inputs and targets), in nats."""
    losses = []
    for tokens, targets in windows:
        context.forget()
        logits = context.feed(tokens).astype(np.float64)
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        losses += list(log_sum - logits[np.arange(len(targets)), targets])
    return losses


def compare_perplexity(report, args, path, name, text, known=None):
    """The windows of `gatewright evaluate`: the end of text before and after the document, cut every WINDOW tokens."""
    file = args.work / "pages.txt"
    with llama.Model(path) as model:
        end = model.tokenize("<|endoftext|>", special=True)[0]  # what `gatewright evaluate` puts between documents
        while len(model.tokenize(text)) >= WINDOW * WINDOWS:  # whole lines that fit
            text = text[:text.rfind("\n", 0, int(len(text) * 0.97)) + 1]
        file.write_text(text)
        ids = [end] + model.tokenize(text) + [end]
        places = range(0, len(ids) - 1, WINDOW)
        windows = [(ids[i:min(i + WINDOW, len(ids) - 1)], ids[i + 1:i + WINDOW + 1]) for i in places]
        with llama.Context(model, WINDOW) as context:
            losses = negative_log_likelihoods(context, windows)
    theirs = float(np.exp(np.mean(losses)))
    ours = json.loads(common.ours(args, "evaluate", path, "--data", file, "--sequence-length", WINDOW, "--json"))
    difference = ours["perplexity"] / theirs - 1
    same = ours["tokens"] == len(losses)
    report.row(f"perplexity of WikiText-2, {len(losses)} tokens, {name}", "llama.cpp",
               f"{ours['perplexity']:.4f}, theirs {theirs:.4f} ({100 * difference:+.4f} %)"
               + ("" if same else f"; {ours['tokens']} tokens of ours"), abs(difference) < 1e-3 and same, same and known)
    return file


def mean_kl(args, path, full, pages):
    return json.loads(common.ours(args, "evaluate", path, "--against", full, "--data", pages, "--sequence-length", WINDOW,
                                  "--tokens", KL_TOKENS, "--json"))["mean_kl"]


def compare_quantisers(report, args, full, pages):
    """KL divergence from the unpacked file of ours and of llama.cpp's file of the same type."""
    for name, number in FILE_TYPES.items():
        mine, theirs = args.work / f"ours-{name}.gguf", args.work / f"theirs-{name}.gguf"
        common.ours(args, "quantize", full, mine, "--type", name)
        llama.quantize(full, theirs, number)
        kl = [mean_kl(args, path, full, pages) for path in (mine, theirs)]
        sizes = [path.stat().st_size / 1e6 for path in (mine, theirs)]
        report.row(f"KL divergence of a {name} file from F32", "llama.cpp",
                   f"{kl[0]:.5f} at {sizes[0]:.1f} MB, theirs {kl[1]:.5f} at {sizes[1]:.1f} MB", kl[0] <= 1.05 * kl[1])
        mine.unlink(), theirs.unlink()


def squared_errors(path, exact):
    """Of each packed down projection, over the sum of its squares."""
    errors = {}
    for tensor in gguf.GGUFReader(path).tensors:
        if PACKED in tensor.name:
            x = exact[tensor.name].data
            errors[tensor.name] = float(np.square(gguf.quants.dequantize(tensor.data, tensor.tensor_type) - x).sum() / np.square(x).sum())
    return errors


def compare_packing(report, args, full, pages):
    """The same types in the same places: the down projections packed, by us and by llama.cpp, all else F32. Only their rows
    are whole blocks of the K types. Of each matrix the squared error is held, too."""
    exact = {tensor.name: tensor for tensor in gguf.GGUFReader(full).tensors}
    for name, number in PURE_TYPES.items():
        mine, theirs, all_theirs = (args.work / f"{side}-{name}.gguf" for side in ("ours", "theirs", "all-theirs"))
        common.ours(args, "quantize", full, mine, "--type", f"{PACKED}={name}")
        llama.quantize(full, all_theirs, number, pure=True)
        shutil.copy(mine, theirs)
        packed = gguf.GGUFReader(theirs, "r+")
        source = {tensor.name: tensor for tensor in gguf.GGUFReader(all_theirs).tensors}
        replaced = [tensor for tensor in packed.tensors if PACKED in tensor.name]
        for tensor in replaced:
            assert tensor.tensor_type == source[tensor.name].tensor_type, tensor.name
            tensor.data[:] = source[tensor.name].data
        packed.data.flush()
        kl = [mean_kl(args, path, full, pages) for path in (mine, theirs)]
        report.row(f"KL divergence of {len(replaced)} down projections in {name} from F32", "llama.cpp",
                   f"{kl[0]:.3g}, theirs {kl[1]:.3g}", kl[0] <= 1.05 * kl[1])
        errors = [squared_errors(path, exact) for path in (mine, theirs)]
        worse = sum(errors[0][tensor] > errors[1][tensor] * (1 + 1e-6) for tensor in errors[1])
        report.row(f"squared error of {len(errors[1])} down projections in {name}", "llama.cpp",
                   "{:.3g} of the squares, theirs {:.3g}".format(*(np.mean(list(e.values())) for e in errors))
                   + (f"; larger in {worse}" if worse else "; larger in none"), worse == 0 and len(errors[0]) == len(errors[1]))
        del packed, source, replaced
        mine.unlink(), theirs.unlink(), all_theirs.unlink()


def compare(report, args):
    if common.without(common.SMOLLM2, report, "SmolLM2", "llama.cpp"):
        return
    full_folder, full = args.work / "smollm2", args.work / "smollm2-f32.gguf"
    common.ours(args, "convert", common.SMOLLM2, full_folder)
    common.ours(args, "convert", full_folder, full)
    files = ((common.SMOLLM2, "Q4_1", TIE, ROUNDS), (full, "F32", F32_TIE, None))
    for path, name, tie, _ in files:
        compare_greedy(report, args, path, name, tie)
    text = common.data_text(args, "text/wikitext2_test.txt.gz")
    if text is None:
        report.skip("perplexity and quantisers", "llama.cpp", "GATEWRIGHT_DATA has no text/wikitext2_test.txt.gz")
        return
    for path, name, _, known in files:
        pages = compare_perplexity(report, args, path, name, text[:80000], known)
    compare_quantisers(report, args, full, pages)
    compare_packing(report, args, full, pages)


if __name__ == "__main__":
    common.main("smollm2", compare)
