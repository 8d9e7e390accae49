#include "gatewright/formats/tensor_view.h"

#include <algorithm>

#include "gatewright/base/checked.h"
#include "gatewright/base/words.h"

namespace gatewright {
namespace {

struct TypeInfo {
  std::string_view name;
  int64_t elements, bytes;  // of a block
};
/// In the order of DataType.
constexpr TypeInfo kTypes[] = {{"F64", 1, 8},      {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},
                               {"I64", 1, 8},      {"I32", 1, 4},      {"I16", 1, 2},      {"I8", 1, 1},
                               {"U8", 1, 1},       {"BOOL", 1, 1},     {"Q4_0", 32, 18},   {"Q4_1", 32, 20},
                               {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},   {"Q2_K", 256, 84},
                               {"Q3_K", 256, 110}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
                               {"IQ4_NL", 32, 18}, {"MXFP4", 32, 17}};

const TypeInfo& info(DataType type) { return kTypes[static_cast<size_t>(type)]; }

}  // namespace

bool is_packed(DataType type) { return info(type).elements > 1; }
int64_t block_elements(DataType type) { return info(type).elements; }
int64_t block_bytes(DataType type) { return info(type).bytes; }
std::string_view data_type_name(DataType type) { return info(type).name; }

int64_t tensor_bytes(DataType type, std::span<const int64_t> shape, std::string_view what) {
  const int64_t values = checked_product(shape, what), row = shape.empty() ? 1 : shape.back();
  require(row % info(type).elements == 0, "{}: rows of {} values are no whole blocks of {} ({} values)", what,
          row, info(type).name, info(type).elements);
  return checked_mul(values / info(type).elements, info(type).bytes, what);
}

std::optional<DataType> parse_data_type(std::string_view name) {
  const std::string lower = lower_case(name);
  const auto it =
      std::ranges::find_if(kTypes, [&](const TypeInfo& t) { return lower_case(t.name) == lower; });
  if (it == std::end(kTypes)) return std::nullopt;
  return static_cast<DataType>(it - std::begin(kTypes));
}

}  // namespace gatewright
