#!/usr/bin/env python3
"""Chat templates: each published one rendered by us and by Transformers, on the same conversations.

The templates are SmolLM2's own and those that llama.cpp's source carries, which `run` unpacks."""
import json
import os
import pathlib
import shutil

from transformers import PreTrainedTokenizerFast

import common

TEMPLATES = pathlib.Path(os.environ.get("GATEWRIGHT_PEERS") or common.ROOT / "build/peers") / "templates"
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "Tells the weather of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "A town's name"}},
                   "required": ["place"]}}}
HELLO = {"role": "user", "content": "Hello, <who> & \"why\"?"}
CONVERSATIONS = {
    "a question": dict(messages=[HELLO]),
    "no generation prompt": dict(messages=[HELLO], add_generation_prompt=False),
    "a system message": dict(messages=[{"role": "system", "content": "Be brief.\n"}, HELLO]),
    "several turns": dict(messages=[{"role": "system", "content": "Be brief."}, HELLO,
                                    {"role": "assistant", "content": " Grüß Gott! 你好 🙂 "},
                                    {"role": "user", "content": "  And {{ now }}?\n\n"}]),
    "two of the user": dict(messages=[HELLO, {"role": "user", "content": "Again"}]),
    "a tool": dict(messages=[HELLO], tools=[TOOL]),
    "a tool's answer": dict(messages=[
        HELLO, {"role": "assistant", "content": "", "tool_calls": [
            {"type": "function", "id": "call00001", "function": {"name": "weather", "arguments": {"place": "Ulm"}}}]},
        {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "{\"sky\": \"grey\"}"}], tools=[TOOL]),
}
# Where Transformers renders otherwise, and why.
KNOWN = {
    "llama-cpp-deepseek-r1": "Transformers does not write the generator that `map` gives as JSON",
    "meetkai-functionary-medium-v3.1": "Transformers escapes what is added to a text that `safe` marked for HTML",
}


def theirs_of(tokenizer, source, conversation):
    """The text, or None with what Transformers said."""
    given = dict(conversation)
    messages = json.loads(json.dumps(given.pop("messages")))
    try:
        return tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False,
                                             **{"add_generation_prompt": True} | given), ""
    except Exception as error:  # of any kind: templates are programs
        return None, str(error)


def ours_of(args, folder, conversation):
    try:
        return common.ours(args, "tokenizer", "render", "--tokenizer", folder, "-",
                           input=json.dumps(conversation).encode()).decode(), ""
    except common.OurError as error:
        return None, str(error)


def compare_template(report, args, name, source, folder, tokenizer):
    (folder / "chat_template.jinja").write_text(source)
    same, refused, differing = 0, 0, []
    for what, conversation in CONVERSATIONS.items():
        ours, our_error = ours_of(args, folder, conversation)
        theirs, their_error = theirs_of(tokenizer, source, conversation)
        if ours == theirs:
            same, refused = same + 1, refused + (ours is None)
        else:
            at = next((i for i, (a, b) in enumerate(zip(ours or "", theirs or "")) if a != b), 0)
            differing.append(f"{what}: {(ours or our_error)[at:at + 60]!r}, theirs {(theirs or their_error)[at:at + 60]!r}")
    told = f"{same} of {len(CONVERSATIONS)} conversations the same" + (f", {refused} refused by both" if refused else "")
    report.row(name, "Transformers", "; ".join([told, *differing]), not differing, KNOWN.get(name))


def compare(report, args):
    if common.without(common.SMOLLM2, report, "chat templates", "Transformers"):
        return
    converted, folder = args.work / "smollm2", args.work / "templates"
    common.ours(args, "convert", common.SMOLLM2, converted)
    folder.mkdir(exist_ok=True)
    shutil.copy(converted / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<|im_start|>",
                                        eos_token="<|im_end|>")
    compare_template(report, args, "SmolLM2", (converted / "chat_template.jinja").read_text(), folder, tokenizer)
    published = sorted(TEMPLATES.glob("*.jinja"))
    if not published:
        report.skip("published templates", "Transformers", f"no *.jinja in {TEMPLATES.name}/")
    for path in published:
        compare_template(report, args, path.stem, path.read_text(), folder, tokenizer)


if __name__ == "__main__":
    common.main("templates", compare)
