// Files as RealText expects them, small and plain: what is not compressed is read as it is.
#pragma once

#include <string>

#include "tests/testing.h"

namespace gatewright::experiments {

inline void write_real_text(const TemporaryFolder& folder) {
  std::string prose;
  for (int i = 0; i < 400; ++i) prose += "The " + std::to_string(i * 37 % 101) + "th gate opens.\n";
  for (const char* file : {"tinyshakespeare.txt.gz", "war_and_peace.txt.gz", "wikitext2_valid.txt.gz"})
    folder.write(std::string("text/") + file, file + prose);
  folder.write("text/wikitext2_test.txt.gz", std::string(2000, 'z'));
  for (const char* file :
       {"tinystories_sample.jsonl.gz", "genesis_8_versions.jsonl.gz", "us_presidential_speeches.jsonl.gz"}) {
    std::string lines;
    for (int i = 0; i < 80; ++i)
      lines +=
          std::string(R"({"text": "Once upon a time, )") + file + " " + std::to_string(i) + R"("})" + "\n";
    folder.write(std::string("text/") + file, lines);
  }
  std::string sums, java;
  for (int i = 0; i < 80; ++i) {
    sums +=
        R"({"question": "How much is )" + std::to_string(i) + R"( and 1?", "answer": "It is more."})" + "\n";
    java += R"({"java": "int f)" + std::to_string(i) + R"(() { return 1; }", "csharp": "-"})" + "\n";
  }
  folder.write("text/gsm8k_train.jsonl.gz", sums);
  folder.write("text/gsm8k_test.jsonl.gz", sums);
  folder.write("text/code_java_csharp.jsonl.gz", java);
}

}  // namespace gatewright::experiments
