// gatewright-lab: the verbs that measure. A program of its own, so that the others build faster.
#include "lab_verbs.h"
#include "tensor_program.h"

int main(int argc, char** argv) {
  return gatewright::command::run_tensor_command(argc, argv, gatewright::command::lab_verbs());
}
