#!/usr/bin/env python3
"""The sentence encoder against Transformers and llama.cpp: MiniLM, and a tiny BERT that Transformers wrote."""
import json
import shutil

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

import common
import hugging_face
import llama

LEAST = 0.9999
FILE_TYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}  # general.file_type
LINES, LONGEST = 200, 400  # of WikiText, in characters
TEXTS = ["A man plays the guitar.", "Someone makes music.", "The stock market fell by three percent on Tuesday.", "x",
         "Der Zug nach München fährt um 8:15 Uhr ab.", "今日は天気がいいです。", "naïve café, déjà vu!", "import numpy as np",
         "What is the capital of France?", "Paris is the capital of France.", "  spaces   and\ttabs ", "1234567890 + 0.5 = ?",
         "word " * 100, "Routing decides where computation goes: " * 12]


def theirs_of(folder):
    """Mean over the tokens, then length one, as sentence-transformers does for MiniLM."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    out = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=model.config.max_position_embeddings)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(0)
        out.append((mean / mean.norm()).numpy())
    return np.array(out)


def ours_of(args, model, texts=TEXTS):
    lines = "".join(text + "\n" for text in texts)
    return np.array([e["embedding"] for e in json.loads(common.ours(args, "embed", model, "--json", "-", input=lines.encode()))])


def cosines(report, what, peer, ours, theirs):
    if ours.shape != theirs.shape:
        report.row(what, peer, f"shapes {ours.shape} and {theirs.shape}", False)
        return
    least = float((ours * theirs).sum(1).min() / 1)
    report.row(what, peer, f"least cosine of {len(TEXTS)} texts {least:.7f}", least > LEAST)


def compare_model(report, args, name, folder):
    theirs, ours = theirs_of(folder), ours_of(args, folder)
    cosines(report, f"{name}: embeddings", "Transformers", ours, theirs)
    gguf, back = args.work / f"{name}.gguf", args.work / f"{name}-back"
    common.ours(args, "convert", folder, gguf)
    cosines(report, f"{name}: our GGUF of it, by us", "Transformers", ours_of(args, gguf), theirs)
    try:
        cosines(report, f"{name}: our GGUF of it", "llama.cpp", llama.embeddings(gguf, TEXTS), theirs)
    except llama.LoadError as error:
        report.row(f"{name}: our GGUF of it", "llama.cpp", f"not loaded: {error}", False)
    common.ours(args, "convert", gguf, back)
    cosines(report, f"{name}: our folder of that", "Transformers", theirs_of(back), theirs)


def compare_quantisers(report, args):
    """How far the embeddings of packed files are from those of the F32 file: ours, and llama.cpp's file of the same type.
    Unlike SmolLM2's at hand, these weights were never packed before."""
    pages = common.data_text(args, "text/wikitext2_test.txt.gz")
    if pages is None:
        report.skip("quantised MiniLM", "llama.cpp", "GATEWRIGHT_DATA has no text/wikitext2_test.txt.gz")
        return
    texts = [line.strip()[:LONGEST] for line in pages.split("\n") if len(line.strip()) > 100][:LINES]
    full = args.work / "MiniLM.gguf"  # of compare_model
    exact = ours_of(args, full, texts)
    for name, number in FILE_TYPES.items():
        mine, theirs = args.work / f"ours-{name}.gguf", args.work / f"theirs-{name}.gguf"
        common.ours(args, "quantize", full, mine, "--type", name)
        llama.quantize(full, theirs, number)
        far = [1 - float((ours_of(args, path, texts) * exact).sum(1).mean()) for path in (mine, theirs)]
        sizes = [path.stat().st_size / 1e6 for path in (mine, theirs)]
        report.row(f"MiniLM in {name}: 1 - cosine to F32, mean of {len(texts)} texts", "llama.cpp",
                   f"{far[0]:.3g} at {sizes[0]:.1f} MB, theirs {far[1]:.3g} at {sizes[1]:.1f} MB", far[0] <= 1.05 * far[1])


def compare(report, args):
    if common.without(common.MINILM, report, "MiniLM", "Transformers"):
        return
    compare_model(report, args, "MiniLM", common.MINILM)
    compare_quantisers(report, args)
    tiny = args.work / "tiny"
    config = BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    model = BertModel(config, add_pooling_layer=False).eval()
    hugging_face.randomise(model)
    model.save_pretrained(tiny)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(common.MINILM / name, tiny)
    compare_model(report, args, "tiny BERT", tiny)


if __name__ == "__main__":
    common.main("embeddings", compare)
