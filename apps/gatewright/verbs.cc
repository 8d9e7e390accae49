#include "command.h"

namespace gatewright::command {

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> all = {
      {"train", "train a model from a recipe", Program::kTensor,
       "  gatewright train tiny --data ~/books --out my-model\n"
       "  gatewright train my.toml --data ~/books --out my-model --set train.steps=500 --set "
       "routing.top_k=4\n"
       "  gatewright train my.toml --data ~/books --out my-model --dry-run\n\n"
       "An interrupted training (Ctrl-C, power cut) goes on when the same command is given again."},
      {"evaluate", "perplexity and bits per byte of a model on text, for each domain", Program::kTensor,
       "  gatewright evaluate my-model --data ~/books\n"
       "  gatewright evaluate my-model --data ~/books --json | jq .bits_per_byte\n"
       "  gatewright evaluate smollm2-q4.gguf --against smollm2 --data ~/books --tokens 20000"},
      {"generate", "continue a text", Program::kTensor,
       "  gatewright generate my-model --prompt 'Once upon a time' --tokens 100\n"
       "  echo 'int main(' | gatewright generate my-model --prompt - --temperature 0"},
      {"chat", "talk with a model that has a chat template", Program::kTensor,
       "  gatewright chat smollm2\n"
       "  echo 'What is a gate?' | gatewright chat smollm2 --system 'Answer in one sentence.' --temperature "
       "0"},
      {"embed", "vectors of texts from a sentence encoder: near to each other when they mean the same",
       Program::kTensor,
       "  gatewright embed minilm sentences.txt --json\n"
       "  echo 'A man plays the guitar.' | gatewright embed minilm"},
      {"inspect", "how a model routes: load, domains, information, uncertain tokens, heat map",
       Program::kTensor,
       "  gatewright inspect my-model --data ~/books\n"
       "  gatewright inspect my-model --data ~/books --trace routing.trace --json"},
      {"logits", "logits and routing of given tokens", Program::kTensor,
       "  gatewright logits my-model --tokens 1,2,3 --json"},
      {"show", "what a model's file holds: architecture, experts, gate, types, parameters", Program::kCore,
       "  gatewright show smollm2\n"
       "  gatewright show mixtral-8x7b.Q4_K_M.gguf --tensors\n"
       "  gatewright show OLMoE-1B-7B-0924 --json | jq .active_parameters"},
      {"convert", "a model from Hugging Face's format to GGUF, and back", Program::kCore,
       "  gatewright convert OLMoE-1B-7B-0924 olmoe.gguf\n"
       "  gatewright convert olmoe.gguf olmoe-folder --type bf16\n"
       "  gatewright convert stories260K.bin stories.gguf --tokenizer tok512.bin"},
      {"upcycle", "a mixture of experts out of a dense model", Program::kCore,
       "  gatewright upcycle smollm2 mixture.gguf --experts 8 --top-k 2\n"
       "  gatewright upcycle smollm2 mixture.gguf --split neurons --grouping clustered --experts 8 --top-k "
       "4"},
      {"tokenizer", "train and use tokenizers", Program::kCore,
       "  gatewright tokenizer train --vocab-size 16384 --out tokenizer.json ~/books\n"
       "  gatewright tokenizer show --tokenizer tokenizer.json 'some text'"},
      {"quantize", "write a GGUF file with fewer bits a weight", Program::kCore,
       "  gatewright quantize model.gguf small.gguf --type q4_k_m\n"
       "  gatewright quantize model.gguf small.gguf --type 'ffn_.*_exps=q4_k,*=q8_0' --imatrix imatrix.gguf\n"
       "  gatewright quantize model-00001-of-00003.gguf small.gguf --type q8_0 --dry-run"},
      {"imatrix", "what a model's weights are multiplied with on your text, for quantize --imatrix",
       Program::kTensor,
       "  gatewright imatrix mixture.gguf --data ~/books --out imatrix.gguf --tokens 100000"},
      {"diff", "which keys and tensors of two files of weights differ, and by how much", Program::kCore,
       "  gatewright diff model.gguf small.gguf\n"
       "  gatewright diff my-model their-model --tolerance 1e-6 --json\n\n"
       "Ends with 0 when nothing differs, with 1 when something does."},
      {"list", "everything that can be named in a recipe", Program::kCore,
       "  gatewright list\n  gatewright list selectors\n  gatewright list --json | jq '.scorers[].name'"},
      {"explain", "parameters, formula and source of one of them", Program::kCore,
       "  gatewright explain top_p\n  gatewright explain scorer:random\n  gatewright explain recipe:train"},
      {"recipe", "recipes to start from", Program::kCore,
       "  gatewright recipe\n  gatewright recipe tiny > my.toml"},
      {"quickstart", "train and compare a dense model and mixtures of experts on text of this machine",
       Program::kTensor, "  gatewright quickstart\n  gatewright quickstart --data ~/books --minutes 20"},
      {"reproduce", "put the claim of a published system to the test", Program::kLab,
       "  gatewright reproduce --list\n"
       "  gatewright reproduce dynamic-moe --seeds 3\n"
       "  gatewright reproduce dynamic-moe --tune --json\n"
       "  gatewright reproduce --all"},
      {"bench",
       "measure this machine: experts (moe), routers of published systems (routers), training (train)",
       Program::kLab, "  gatewright bench moe --quick\n  gatewright bench train --json"},
  };
  return all;
}

}  // namespace gatewright::command
