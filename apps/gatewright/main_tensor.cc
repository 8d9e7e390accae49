// gatewright-tensor: the verbs that compute with tensors.
#include <fmt/format.h>

#include <cstring>

#include "catalogue.h"
#include "gatewright/base/file.h"
#include "tensor_program.h"
#include "tensor_verbs.h"

namespace {

/// The catalogue as a C++ file, in pieces no longer than compilers take.
void write_catalogue(const char* path) {
  const std::string text = gatewright::command::make_catalogue().dump();
  constexpr size_t kPiece = 8000;
  std::string code =
      "#include \"catalogue.h\"\n\nnamespace gatewright::command {\n\nstd::string_view catalogue_text() {\n  "
      "return\n";
  for (size_t i = 0; i < text.size(); i += kPiece)
    code += fmt::format("      R\"catalogue({})catalogue\"\n", text.substr(i, kPiece));
  gatewright::write_file(path, code + "      ;\n}\n\n}  // namespace gatewright::command\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--write-catalogue") == 0) {
    write_catalogue(argv[2]);
    return 0;
  }
  return gatewright::command::run_tensor_command(argc, argv, gatewright::command::tensor_verbs());
}
