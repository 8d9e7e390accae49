// The verbs of `gatewright-tensor`.
#pragma once

#include "command.h"

namespace gatewright::command {

void add_train(Options& verb);
void add_evaluate(Options& verb);
void add_generate(Options& verb);
void add_chat(Options& verb);
void add_embed(Options& verb);
void add_imatrix(Options& verb);
void add_inspect(Options& verb);
void add_logits(Options& verb);
void add_quickstart(Options& verb);

inline std::map<std::string, AddVerb> tensor_verbs() {
  return {{"train", add_train},   {"evaluate", add_evaluate},     {"generate", add_generate},
          {"chat", add_chat},     {"embed", add_embed},           {"inspect", add_inspect},
          {"logits", add_logits}, {"quickstart", add_quickstart}, {"imatrix", add_imatrix}};
}

}  // namespace gatewright::command
