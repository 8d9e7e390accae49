// The verbs of `gatewright-tensor`.
#pragma once

#include "command.h"

namespace gatewright::command {

void add_train(CLI::App& verb);
void add_evaluate(CLI::App& verb);
void add_generate(CLI::App& verb);
void add_inspect(CLI::App& verb);
void add_logits(CLI::App& verb);
void add_quickstart(CLI::App& verb);
void add_bench(CLI::App& verb);
void add_reproduce(CLI::App& verb);

inline std::map<std::string, AddVerb> tensor_verbs() {
  return {{"train", add_train},     {"evaluate", add_evaluate},  {"generate", add_generate},
          {"inspect", add_inspect}, {"logits", add_logits},      {"quickstart", add_quickstart},
          {"bench", add_bench},     {"reproduce", add_reproduce}};
}

}  // namespace gatewright::command
