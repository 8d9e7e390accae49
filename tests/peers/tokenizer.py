#!/usr/bin/env python3
"""Token ids of 10 MB of text in hundreds of languages, against Hugging Face's `tokenizers`, `sentencepiece` and llama.cpp;
and the merges that two trainers learn from the same text."""
import dataclasses
import gzip
import json
import random
import re
import unicodedata
from collections.abc import Callable

import gguf
import numpy as np
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import bytes_to_unicode

import common
import llama

BYTES, PIECE = 10_000_000, 250_000  # of the whole text, of one call
LLAMA_BYTES = 2_000_000  # llama.cpp is slow on long texts
VOCAB_SIZE = 16384
TEXTS = {"text/udhr_multilingual.jsonl.gz": 6_000_000, "text/xquad_12_languages.jsonl.gz": 1_500_000,
         "text/code_java_csharp.jsonl.gz": 700_000, "text/parallel_msdocs.jsonl.gz": 700_000,
         "text/genesis_8_versions.jsonl.gz": 500_000, "text/bible_nt_4_languages.jsonl.gz": 500_000,
         "text/wikitext2_valid.txt.gz": 300_000, "text/gsm8k_train.jsonl.gz": 300_000}


@dataclasses.dataclass
class Known:
    """Where llama.cpp's tokenizer is not that of the original, which ours follows: why, and the characters in which it
    shows. Texts without them are compared, too, and nothing excuses a difference there."""
    why: str
    what: str  # the characters
    meant: Callable[[str, frozenset], bool]  # of a character, and the bytes that the vocabulary has no token for


def characters_of(file, table, kinds=""):
    """The characters of a table of ours, of some kinds where it tells them."""
    text = (common.ROOT / "src/gatewright/text" / file).read_text()
    text = text[text.index(table):]
    ranges = re.findall(r'\{(0x[0-9A-F]+), (0x[0-9A-F]+)' + kinds, text[:text.index(";")])
    return {chr(code) for first, last in ranges for code in range(int(first, 16), int(last, 16) + 1)}


# What Unicode 16 has and Unicode 14 did not have; of these letters, numbers and punctuation; what Unicode 8 knew.
NEW = characters_of("unicode_16_additions.inc", "kSinceUnicode14")
NEW_WORDS = characters_of("unicode_16_additions.inc", "kSinceUnicode14", ', "[LNP]')
PUNCTUATION_8, MARKS_8, CONTROLS_8 = (characters_of("unicode_8_ranges.inc", name)
                                      for name in ("kPunctuation8", "kNonspacingMarks8", "kControls8"))


def newer_than_8(c):
    """Whether it is punctuation, a mark or a control character now as it was not in Unicode 8."""
    category = unicodedata.category(c)
    return ord(c) > 127 and (c in NEW or (category[0] == "P") != (c in PUNCTUATION_8) or (category == "Mn") != (c in MARKS_8) or
                             (category in ("Cc", "Cf", "Co")) != (c in CONTROLS_8))


GAPS = Known("merges nothing across a byte without a token", "characters with a byte that has no token",
             lambda c, lacking: not lacking.isdisjoint(c.encode()))
OLD = Known("knows no letters, numbers and punctuation of Unicode 16", "those that Unicode 14 did not have", lambda c, _: c in NEW_WORDS)
LLAMA_KNOWN = {
    "SmolLM2": [GAPS, OLD], "refact": [GAPS, OLD], "starcoder": [GAPS, OLD], "falcon": [GAPS],
    "gpt-2": [OLD], "mpt": [OLD], "deepseek-coder": [OLD], "gpt-neox": [OLD],
    "bert-bge": [Known("drops every mark, not the nonspacing ones alone", "marks that are not nonspacing",
                       lambda c, _: unicodedata.category(c) in ("Mc", "Me")),
                 Known("makes a space of some control characters", "U+000B, U+000C and U+0085",
                       lambda c, _: c in "\u000b\u000c\u0085"),
                 Known("asks a newer Unicode than 8", "what was no punctuation, mark or control character in it and is now, or "
                       "the reverse", lambda c, _: newer_than_8(c)),
                 Known("decomposes to one character", "characters of several parts besides marks (Hangul)",
                       lambda c, _: any(unicodedata.category(d) != "Mn" for d in unicodedata.normalize("NFD", c)[1:]))],
    "deepseek-llm": [Known("takes white space apart otherwise beside what is not ASCII", "white space that is not ASCII",
                           lambda c, _: c.isspace() and ord(c) > 127)],
}
# Files that name no pattern: llama.cpp takes its default one, the tokenizer.json has this.
LLAMA_PRE = {"gpt-neox": "gpt-2"}
TOKENIZERS = {"GPT-NeoX (OLMoE)": "olmo_gpt_neox_dolma_tokenizer.json.gz", "dolma2 (cl100k)": "dolma2_tokenizer.json.gz",
              "BERT uncased": "bert_uncased_wordpiece_tokenizer.json.gz"}
LONG = ("falcon", "deepseek-coder")  # whose patterns ask for more categories than scanners of ours: all of the text
SENTENCE_PIECE = {"Mixtral": "mistral_mixtral_v1.tokenizer.model", "Mistral v3": "mistral_v3.tokenizer.model"}


def words_of(value):
    """The strings of a JSON value."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [word for v in inside for word in words_of(v)]


def random_text(length):
    """Characters from all of Unicode among those that the patterns know."""
    rng = random.Random(1)
    common_ones = [" ", "  ", "\n", "\t", "'", "'s", "'ll", "\u00a0", "\u3000", "\u180e", "\u0085", "a", "B1", "!?", "\u0301", "\r\n"]
    pieces = []
    while len(pieces) < length:
        code = rng.randrange(1, 0x110000 if rng.random() < 0.3 else 0x3000)
        if rng.random() < 0.5:
            pieces.append(rng.choice(common_ones))
        elif not 0xD800 <= code < 0xE000:
            pieces.append(chr(code))
    return "".join(pieces)


def mixed_pieces(args):
    """The text in pieces of about PIECE bytes, kinds alternating; None without the data."""
    kinds = []
    for name, size in TEXTS.items():
        text = common.data_text(args, name)
        if text is None:
            return None
        if ".jsonl" in name:
            text = "\n".join(word for line in text.split("\n") if line for word in words_of(json.loads(line)))
        kinds.append(text[:size])
    kinds.append(random_text(400_000))
    pieces = [kind[i:i + PIECE // 2] for kind in kinds for i in range(0, len(kind), PIECE // 2)]
    random.Random(1).shuffle(pieces)
    total, taken = 0, []
    for piece in pieces:
        if total < BYTES:
            taken.append(piece)
            total += len(piece.encode())
    return taken


def our_ids(args, tokenizer, text, *options):
    return json.loads(common.ours(args, "tokenizer", "encode", "--tokenizer", tokenizer, "--json", *options, "-",
                                  input=text.encode()))["ids"]


def first_other(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def compare_ids(report, args, name, path, peer, encode, pieces, decode, *options, known=None):
    """encode: their ids of a text; decode: their text of ids, for the report."""
    tokens, differing, example = 0, 0, ""
    for piece in pieces:
        ours, theirs = our_ids(args, path, piece, *options), list(encode(piece))
        tokens += len(theirs)
        if ours != theirs:
            differing += 1
            at = first_other(ours, theirs)
            example = example or f", first at {decode(ours[at - 2:at + 6])!r}: {ours[at:at + 4]}, theirs {theirs[at:at + 4]}"
    megabytes = sum(len(p.encode()) for p in pieces) / 1e6
    report.row(f"ids of {megabytes:.1f} MB, {name}", peer,
               f"{tokens} ids the same" if not differing else f"{differing} of {len(pieces)} pieces differ{example}",
               not differing, known)


def compare_hugging_face(report, args, name, path, pieces, ours=None):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation(), tokenizer.no_padding()
    compare_ids(report, args, name, ours or path, "tokenizers", lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                pieces, tokenizer.decode, "--parse-special")


def compare_sentence_piece(report, args, name, path, pieces):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    compare_ids(report, args, name, path, "sentencepiece", processor.encode, pieces, processor.decode)


def bytes_without_token(path):
    """Of a byte-level vocabulary in GGUF; none of others."""
    fields = gguf.GGUFReader(path).fields
    if fields["tokenizer.ggml.model"].contents() != "gpt2":
        return frozenset()
    tokens = set(fields["tokenizer.ggml.tokens"].contents())
    return frozenset(byte for byte, name in bytes_to_unicode().items() if name not in tokens)


def compare_llama(report, args, name, path, pieces):
    """As the file is; then without the characters that llama.cpp is known to take otherwise, where all must be equal."""
    vocabulary = name.removesuffix(" in GGUF")
    known, pre = LLAMA_KNOWN.get(vocabulary, []), LLAMA_PRE.get(vocabulary)
    why = ["cuts by its default pattern, for the file names none"] if pre else []
    why += [k.why for k in known]
    with llama.Model(path, vocab_only=True) as model:
        compare_ids(report, args, name, path, "llama.cpp", model.tokenize, pieces, lambda ids: ids, known="; ".join(why) or None)
    if not why:
        return
    lacking = bytes_without_token(path)
    rest = ["".join(c for c in piece if not any(k.meant(c, lacking) for k in known)) for piece in pieces]
    name += f", the pattern named ({pre})" if pre else ""
    name += f", without {', '.join(k.what for k in known)}" if known else ""
    with llama.Model(path, vocab_only=True, pre=pre) as model:
        compare_ids(report, args, name, path, "llama.cpp", model.tokenize, rest, lambda ids: ids)


def unpacked(args, name):
    path = args.data and common.pathlib.Path(args.data) / "weights" / name
    target = args.work / path.name.removesuffix(".gz")
    target.write_bytes(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    return target


def write_model_around(vocabulary, target):
    """A GGUF file of a small Llama with the tokenizer of another GGUF file and zeros for weights: it can be converted."""
    fields = gguf.GGUFReader(vocabulary).fields
    width, size = 32, len(fields["tokenizer.ggml.tokens"].data)
    writer = gguf.GGUFWriter(target, "llama")
    for key, field in fields.items():
        if key.startswith("tokenizer."):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    writer.add_block_count(1)
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    shapes = {"token_embd": (size, width), "output_norm": (width,), "blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{name}"] = (width, width)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def compare_made_json(report, args, name, path, pieces):
    """A tokenizer that came as GGUF, against the tokenizer.json that we make of it."""
    model, folder = args.work / f"{name}-model.gguf", args.work / f"{name}-folder"
    write_model_around(path, model)
    common.ours(args, "convert", model, folder)
    compare_hugging_face(report, args, f"{name} in GGUF", folder / "tokenizer.json", pieces, path)


def compare_trainers(report, args, texts):
    """The same merges out of the same text."""
    def merges(path):
        return [m if isinstance(m, str) else " ".join(m) for m in json.loads(path.read_text())["model"]["merges"]]

    files = []
    for i, text in enumerate(texts):
        files.append(args.work / f"training-{i}.txt")
        files[-1].write_text(text)
    ours, theirs = args.work / "ours.json", args.work / "theirs.json"
    common.ours(args, "tokenizer", "train", "--vocab-size", VOCAB_SIZE, "--out", ours, *files)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, min_frequency=2, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.save(str(theirs))
    report.row(f"merges that the trainers learn from {sum(map(len, texts)) / 1e6:.1f} million characters", "tokenizers",
               f"{len(merges(ours))} merges", merges(ours) == merges(theirs))
    return ours, theirs


def compare(report, args):
    pieces = mixed_pieces(args)
    if pieces is None:
        report.skip("token ids", "all", "GATEWRIGHT_DATA has no text/ to take 10 MB from")
        return
    short, total = [], 0
    for piece in pieces:
        if total < LLAMA_BYTES:
            short.append(piece)
            total += len(piece.encode())
    for name, path in zip(("our training", "their training"), compare_trainers(report, args, pieces[:12]), strict=True):
        compare_hugging_face(report, args, name, path, short)
    if not common.without(common.SMOLLM2, report, "SmolLM2's ids", "tokenizers"):
        folder = args.work / "smollm2"
        common.ours(args, "convert", common.SMOLLM2, folder)
        compare_hugging_face(report, args, "SmolLM2, our tokenizer.json of its GGUF", folder / "tokenizer.json", pieces)
        compare_hugging_face(report, args, "SmolLM2, the GGUF file itself", folder / "tokenizer.json", short, common.SMOLLM2)
        compare_llama(report, args, "SmolLM2", common.SMOLLM2, short)
    if not common.without(common.MINILM, report, "MiniLM's ids", "tokenizers"):
        compare_hugging_face(report, args, "MiniLM", common.MINILM / "tokenizer.json", pieces)
    for name, file in TOKENIZERS.items():
        compare_hugging_face(report, args, name, unpacked(args, f"tokenizers/{file}"), pieces)
    for name, file in SENTENCE_PIECE.items():
        compare_sentence_piece(report, args, name, unpacked(args, f"tokenizers/{file}"), pieces)
    for path in sorted((common.pathlib.Path(args.data) / "weights/gguf_vocab").glob("*.gguf.gz")):
        name = path.name.removeprefix("ggml-vocab-").removesuffix(".gguf.gz")
        vocabulary = unpacked(args, f"gguf_vocab/{path.name}")
        compare_made_json(report, args, name, vocabulary, pieces if name in LONG else short)
        compare_llama(report, args, f"{name} in GGUF", vocabulary, short)


if __name__ == "__main__":
    common.main("tokenizer", compare)
