#!/usr/bin/env python3
"""Puts the rows of all subjects into results.json and table.md: `table.py FOLDER`."""
import importlib.metadata
import json
import pathlib
import platform
import sys

SUBJECTS = {"families": "Families", "trained": "Trained mixtures", "smollm2": "SmolLM2", "tokenizer": "Tokenizers", "templates": "Chat templates",
            "embeddings": "Sentence embeddings", "speed": "Speed"}
PEERS = ("transformers", "tokenizers", "safetensors", "sentencepiece", "llama_cpp_python", "torch", "numpy")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def main():
    folder = pathlib.Path(sys.argv[1])
    rows = [row for s in SUBJECTS if (folder / f"rows-{s}.json").exists()
            for row in json.loads((folder / f"rows-{s}.json").read_text())]
    versions = {peer: importlib.metadata.version(peer) for peer in PEERS}
    (folder / "results.json").write_text(json.dumps({"versions": versions, "processor": processor(), "rows": rows}, indent=1,
                                                    ensure_ascii=False) + "\n")
    lines = [f"Python {platform.python_version()}, " + ", ".join(f"{k} {v}" for k, v in versions.items()) + f"; {processor()}."]
    for subject, title in SUBJECTS.items():
        mine = [row for row in rows if row["subject"] == subject]
        if mine:
            lines += ["", f"### {title}", "", "| what | peer | measured | |", "|---|---|---|---|"]
        for row in mine:
            verdict = row["verdict"] + (f": {row['note']}" if row["note"] else "")
            lines.append(f"| {cell(row['what'])} | {row['peer']} | {cell(row['measured'])} | {cell(verdict)} |")
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    count = {v: sum(row["verdict"] == v for row in rows) for v in ("agrees", "the peer differs", "DIFFERS", "skipped")}
    print("\n" + ", ".join(f"{n} {v}" for v, n in count.items()) + f"; the table is in {folder / 'table.md'}")


if __name__ == "__main__":
    main()
