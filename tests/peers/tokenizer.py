#!/usr/bin/env python3
"""Holds the tokenizer against Hugging Face's: the same merges from the same text, and the same ids both ways.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install tokenizers
    /tmp/peers/bin/python tests/peers/tokenizer.py --gatewright build/release/bin/gatewright FILES

FILES are plain text in UTF-8. Exit 1 when something differs, 2 when there is no `tokenizers`.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

try:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
except ImportError:
    print("the Python package tokenizers is not here", file=sys.stderr)
    sys.exit(2)


def their_training(texts, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges(path):
    listed = json.loads(path.read_text())["model"]["merges"]
    return [m if isinstance(m, str) else " ".join(m) for m in listed]


def random_text(length):
    """Characters from all of Unicode among those that the pattern knows."""
    rng = random.Random(1)
    common = [" ", "  ", "\n", "\t", "'", "'s", "'ll", "\u00a0", "\u3000", "\u180e", "\u0085", "\0", "a", "B1", "!?", "\u0301"]
    pieces = []
    while len(pieces) < length:
        code = rng.randrange(0x110000 if rng.random() < 0.3 else 0x3000)
        if rng.random() < 0.5:
            pieces.append(rng.choice(common))
        elif not 0xD800 <= code < 0xE000:
            pieces.append(chr(code))
    return "".join(pieces)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gatewright", default="build/release/bin/gatewright")
    parser.add_argument("--vocab-size", type=int, default=16384)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    texts = [path.read_bytes().decode() for path in args.files]
    failed = 0

    def check(what, same):
        nonlocal failed
        failed += not same
        print(("same   " if same else "DIFFERS"), what)

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = pathlib.Path(folder) / "ours.json", pathlib.Path(folder) / "theirs.json"
        subprocess.run([args.gatewright, "tokenizer", "train", "--vocab-size", str(args.vocab_size), "--out", ours,
                        *args.files], check=True)
        their_training(texts, args.vocab_size).save(str(theirs))
        check(f"{len(merges(ours))} merges of the two trainers", merges(ours) == merges(theirs))
        for path, name in ((ours, "our file"), (theirs, "their file")):
            tokenizer = Tokenizer.from_file(str(path))
            for text, kind in ((texts[0][:2_000_000], "text"), (random_text(200_000), "random characters")):
                printed = subprocess.run([args.gatewright, "tokenizer", "encode", "--tokenizer", path, "--json", "-"],
                                         input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                check(f"{len(ids)} ids of {kind} with {name}", json.loads(printed)["ids"] == ids)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
