"""What the comparisons share: rows of the table, our command, and llama.cpp behind a few functions.

A script calls `main(subject, compare)`; `compare(report, args)` adds rows. The exit status is 1 when a row differs.
"""
import argparse
import contextlib
import ctypes
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "gatewright/models"
DATA = os.environ.get("GATEWRIGHT_DATA") or (ROOT.parent / "shared/data" if (ROOT.parent / "shared/data").is_dir() else None)
SMOLLM2 = MODELS / "smollm2-135m-instruct.q4_1.gguf"
MINILM = MODELS / "all-minilm-l6-v2"


class Report:
    """Rows of one subject: what was compared, with whom, what came out, and the verdict."""

    def __init__(self, subject):
        self.subject, self.rows = subject, []

    def row(self, what, peer, measured, good, theirs=None):
        """good: within the bound. theirs: why the peer is the one that differs, where that is known; such a row is no
        failure, and says so when the difference is gone."""
        verdict = "agrees" if good else "the peer differs" if theirs else "DIFFERS"
        note = (theirs or "") if not good else "no longer differs" if theirs else ""
        self._add(what, peer, measured, verdict, note)

    def number(self, what, peer, measured, note=""):
        """A measurement without a bound."""
        self._add(what, peer, measured, "measured", note)

    def skip(self, what, peer, why):
        self._add(what, peer, "", "skipped", why)

    def failed(self):
        return sum(row["verdict"] == "DIFFERS" for row in self.rows)

    def _add(self, what, peer, measured, verdict, note):
        self.rows.append({"subject": self.subject, "what": what, "peer": peer, "measured": measured, "verdict": verdict,
                          "note": note})
        print(f"{verdict:16} {what} | {peer} | {measured}{' | ' + note if note else ''}", flush=True)


def main(subject, compare):
    parser = argparse.ArgumentParser()
    parser.add_argument("--gatewright", type=pathlib.Path, default=ROOT / "build/release/bin/gatewright")
    parser.add_argument("--data", type=pathlib.Path, default=DATA,
                        help="folder with real data; $GATEWRIGHT_DATA or ../shared/data when left out")
    parser.add_argument("--only", default="", help="rows whose name has this word, where a subject has many")
    parser.add_argument("--rows", type=pathlib.Path, help="JSON file for the rows")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the files in between, to look at them afterwards")
    args = parser.parse_args()
    report = Report(subject)
    with contextlib.ExitStack() as stack:
        args.work = args.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        args.work.mkdir(parents=True, exist_ok=True)
        compare(report, args)
    if args.rows:
        args.rows.write_text(json.dumps(report.rows, indent=1, ensure_ascii=False) + "\n")
    sys.exit(1 if report.failed() else 0)


# --- ours ---

class OurError(Exception):
    """What our command said when it failed."""


def ours(args, *words, input=None):
    """Standard output of `gatewright WORDS`."""
    done = subprocess.run([args.gatewright, *map(str, words)], input=input, capture_output=True)
    if done.returncode != 0:
        raise OurError(done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}")
    return done.stdout


def our_logits(args, model, tokens):
    """Logits [T, V] and, by layer, the chosen experts of each token (lists [T][k])."""
    out = json.loads(ours(args, "logits", model, "--tokens", ",".join(map(str, tokens)), "--json"))
    return np.array(out["logits"]), {r["layer"]: r["experts"] for r in out.get("routing", [])}


# --- data ---

def data_text(args, name):
    """The text of a file below the data folder; None without the folder."""
    path = args.data and pathlib.Path(args.data) / name
    if not path or not path.exists():
        return None
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


def without(path, report, what, peer):
    """Whether a model is missing; says so in the report."""
    if path.exists():
        return False
    report.skip(what, peer, f"{path.name} is not there: tools/get-models fetches it")
    return True


# --- distances ---

def relative_difference(a, b):
    """Largest difference over the largest magnitude of b."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max() / np.abs(b).max())


def same_experts(a, b):
    """Share of (layer, token) rows with the same set of experts."""
    if sorted(a) != sorted(b):
        return 0.0
    rows = [set(x) == set(y) for layer in a for x, y in zip(a[layer], b[layer], strict=True)]
    return float(np.mean(rows)) if rows else 1.0
