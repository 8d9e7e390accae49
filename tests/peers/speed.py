#!/usr/bin/env python3
"""Speed side by side: prefill and decode of SmolLM2 in Q4_1, ours against llama.cpp, on 1 and 2 threads.

Ours is timed from outside: a long run less a short one, so that starting and loading are not counted. The two take turns,
and the medians are shown."""
import statistics
import time

import common
import llama

PREFILL, DECODE, REPETITIONS = 512, 64, 5


def our_seconds(args, threads, prompt, tokens):
    started = time.perf_counter()
    common.ours(args, "generate", common.SMOLLM2, "--prompt", prompt, "--temperature", 0, "--tokens", tokens, "--no-stop",
                "--threads", threads)
    return time.perf_counter() - started


def our_speeds(args, threads, long_prompt, short_prompt):
    """Tokens a second: (prefill, decode)."""
    prefill = our_seconds(args, threads, long_prompt, 1) - our_seconds(args, threads, short_prompt, 1)
    decode = our_seconds(args, threads, short_prompt, 1 + DECODE) - our_seconds(args, threads, short_prompt, 1)
    return (PREFILL - 1) / prefill, DECODE / decode


def their_speeds(model, threads, ids):
    """As llama.cpp runs by itself: fused attention where it likes, a cache of F16."""
    with llama.Context(model, PREFILL + DECODE, threads, flash=llama.AUTO_FLASH, cache=llama.F16) as context:
        started = time.perf_counter()
        context.feed(ids, all_logits=False)
        prefill = time.perf_counter() - started
        context.forget()
        token = int(context.feed(ids[:1], all_logits=False)[0].argmax())
        started = time.perf_counter()
        for _ in range(DECODE):
            token = int(context.feed([token], all_logits=False)[0].argmax())
        decode = time.perf_counter() - started
    return PREFILL / prefill, DECODE / decode


def compare(report, args):
    if common.without(common.SMOLLM2, report, "speed", "llama.cpp"):
        return
    with llama.Model(common.SMOLLM2) as model:
        long_prompt = " the" * PREFILL
        ids = model.tokenize(long_prompt)
        assert len(ids) == PREFILL, len(ids)
        for threads in (1, 2):
            ours, theirs = [], []
            for _ in range(REPETITIONS):
                ours.append(our_speeds(args, threads, long_prompt, " the"))
                theirs.append(their_speeds(model, threads, ids))
            for i, name in enumerate((f"prefill of {PREFILL} tokens", f"decode of {DECODE} tokens")):
                mine, other = (statistics.median(x[i] for x in side) for side in (ours, theirs))
                spread = " to ".join(f"{x:.3g}" for x in (min(x[i] for x in ours), max(x[i] for x in ours)))
                report.number(f"{name}, {threads} thread{'s' * (threads > 1)}", "llama.cpp",
                              f"{mine:.3g} tokens/s ({spread}), theirs {other:.3g}: a ratio of {mine / other:.2f}")


if __name__ == "__main__":
    common.main("speed", compare)
