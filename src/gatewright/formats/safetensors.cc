#include "gatewright/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "gatewright/base/checked.h"
#include "gatewright/base/json.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

constexpr uint64_t kPrefix = 8;
constexpr uint64_t kLargestHeader = 100'000'000;
constexpr size_t kMostDimensions = 16;

std::string_view header_text(std::span<const std::byte> bytes, std::string_view what) {
  require(bytes.size() >= kPrefix,
          "{} is not a safetensors file: it has {} bytes, the header's length alone takes 8", what,
          bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kPrefix);
  require(length <= kLargestHeader && length <= bytes.size() - kPrefix,
          "{} is damaged: its header claims {} bytes, the file has {} after it", what, length,
          bytes.size() - kPrefix);
  return {reinterpret_cast<const char*>(bytes.data()) + kPrefix, static_cast<size_t>(length)};
}

/// Reads the header while it is parsed: nothing is kept but tensors and metadata, whatever else the text
/// holds, and names that repeat are seen (a parsed object would keep one of them).
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(std::span<const std::byte> data, std::string_view what) : data_(data), what_(what) {}

  std::map<std::string, TensorView> tensors;
  Metadata metadata;

  bool start_object(size_t) override {
    if (place_ == Place::kNothing) return enter(Place::kHeader);
    if (place_ != Place::kHeader) unexpected();
    if (key_ == kMetadataKey) return enter(Place::kMetadata);
    name_ = key_;
    entry_ = {};
    return enter(Place::kEntry);
  }

  bool key(std::string& key) override {
    bool repeated = false;
    if (place_ == Place::kHeader) {
      repeated = key == kMetadataKey ? std::exchange(metadata_seen_, true) : tensors.contains(key);
    } else if (place_ == Place::kMetadata) {
      repeated = metadata.contains(key);
    } else if (key == "dtype") {
      repeated = entry_.type.has_value();
    } else {
      const std::optional<Numbers>* list = entry_.list(key);
      require(list != nullptr, "{}: {} has the key {}; dtype, shape and data_offsets are known", what_,
              Quoted{name_}, Quoted{key});
      repeated = list->has_value();
    }
    require(!repeated, "{} is damaged: {} stands twice in the header", what_, Quoted{key});
    key_ = std::move(key);
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) {
      metadata[key_] = std::move(text);
    } else {
      if (place_ != Place::kEntry || key_ != "dtype") unexpected();
      entry_.type = parse_data_type(text);
      // As it stands in the file: other programs don't take "f32".
      require(entry_.type && !is_packed(*entry_.type) && data_type_name(*entry_.type) == text,
              "{}: {} has the type {}, which is not known", what_, Quoted{name_}, Quoted{text});
    }
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::kEntry || key_ == "dtype") unexpected();
    entry_.list(key_)->emplace();
    return enter(Place::kList);
  }

  bool number_unsigned(uint64_t value) override {
    if (place_ != Place::kList) unexpected();
    require(value <= INT64_MAX, "{}: {} has a size of {}", what_, Quoted{name_}, value);
    Numbers& list = **entry_.list(key_);
    require(list.size() < kMostDimensions, "{}: {} has more than {} dimensions", what_, Quoted{name_},
            kMostDimensions);
    list.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool number_integer(int64_t value) override {
    if (place_ != Place::kList) unexpected();
    fail("{}: {} has a negative size, {}", what_, Quoted{name_}, value);
  }

  bool end_array() override { return enter(Place::kEntry); }

  bool end_object() override {
    if (place_ == Place::kEntry) finish_entry();
    return enter(place_ == Place::kHeader ? Place::kNothing : Place::kHeader);
  }

  bool number_float(double, const std::string&) override { unexpected(); }
  bool null() override { unexpected(); }
  bool boolean(bool) override { unexpected(); }
  bool binary(binary_t&) override { unexpected(); }
  bool parse_error(size_t, const std::string&, const Json::exception& problem) override {
    fail_not_json(std::string(what_) + " (header)", problem);
  }

 private:
  using Numbers = std::vector<int64_t>;
  enum class Place { kNothing, kHeader, kMetadata, kEntry, kList };
  struct Entry {
    std::optional<DataType> type = {};
    std::optional<Numbers> shape = {}, range = {};
    std::optional<Numbers>* list(std::string_view key) {
      return key == "shape" ? &shape : key == "data_offsets" ? &range : nullptr;
    }
  };
  static constexpr std::string_view kMetadataKey = "__metadata__";

  bool enter(Place place) {
    place_ = place;
    return true;
  }

  [[noreturn]] void unexpected() const {
    if (place_ == Place::kNothing) fail("{} is damaged: the header must be an object", what_);
    if (place_ == Place::kMetadata || (place_ == Place::kHeader && key_ == kMetadataKey))
      fail("{} is damaged: __metadata__ must map texts to texts", what_);
    fail(
        "{} is damaged: {} must have dtype (a text), shape (whole numbers) and data_offsets (two whole "
        "numbers)",
        what_, Quoted{place_ == Place::kHeader ? key_ : name_});
  }

  void finish_entry() {
    if (!entry_.type || !entry_.shape || !entry_.range || entry_.range->size() != 2) unexpected();
    const int64_t begin = (*entry_.range)[0], end = (*entry_.range)[1];
    require(begin <= end && static_cast<uint64_t>(end) <= data_.size(),
            "{}: {} lies outside the file: its range must be within the {} bytes of data", what_,
            Quoted{name_}, data_.size());
    const std::string where = fmt::format("{}: the size of {}", what_, Quoted{name_});
    const int64_t size = tensor_bytes(*entry_.type, *entry_.shape, where);
    require(size == end - begin, "{}: {} has {} bytes for a shape that takes {}", what_, Quoted{name_},
            end - begin, size);
    tensors[name_] = {.name = name_,
                      .dtype = *entry_.type,
                      .shape = std::move(*entry_.shape),
                      .data = data_.subspan(static_cast<size_t>(begin), static_cast<size_t>(size))};
  }

  std::span<const std::byte> data_;
  std::string_view what_;
  Place place_ = Place::kNothing;
  std::string key_, name_;  // the last key, and the tensor whose entry it is in
  Entry entry_;
  bool metadata_seen_ = false;
};

void check_tiling(const std::map<std::string, TensorView>& tensors, std::span<const std::byte> data,
                  std::string_view what) {
  std::vector<const TensorView*> order;
  for (const auto& [name, view] : tensors) order.push_back(&view);
  std::ranges::sort(order, {}, [](const TensorView* v) { return std::pair(v->data.data(), v->data.size()); });
  const std::byte* end = data.data();
  for (const TensorView* v : order) {
    require(v->data.data() == end, "{}: there is a hole or an overlap before {}", what, Quoted{v->name});
    end += v->data.size();
  }
  require(end == data.data() + data.size(),
          "{}: {} bytes after the last tensor belong to none (the file is damaged)", what,
          data.data() + data.size() - end);
}

std::vector<TensorPlan> plans_of(std::span<const TensorView> tensors) {
  std::vector<TensorPlan> plans;
  for (const TensorView& t : tensors) plans.push_back(plan_of(t));
  return plans;
}

std::string make_header(std::span<const TensorPlan> tensors, const Metadata& metadata) {
  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names = {"__metadata__"};
  uint64_t begin = 0;
  for (const TensorPlan& t : tensors) {
    require(names.insert(t.name).second, "two tensors can't both be saved as {}", Quoted{t.name});
    require(!is_packed(t.dtype), "{} can't be saved: safetensors has no type {}", Quoted{t.name},
            data_type_name(t.dtype));
    const int64_t size = tensor_bytes(t.dtype, t.shape, t.name);
    require(t.produce || static_cast<uint64_t>(size) == t.data.size(),
            "{} can't be saved: {} bytes for a shape that takes {}", Quoted{t.name}, t.data.size(), size);
    const uint64_t end = checked_add(begin, static_cast<uint64_t>(size), t.name);
    header[t.name] = {{"dtype", data_type_name(t.dtype)}, {"shape", t.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  try {
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    return text;
  } catch (const Json::exception&) {
    fail("the name of a tensor or a text of the metadata is not UTF-8: safetensors can't hold it");
  }
}

}  // namespace

std::map<std::string, TensorView> parse_safetensors(std::span<const std::byte> bytes, std::string_view what,
                                                    Metadata* metadata) {
  const std::string_view text = header_text(bytes, what);
  const std::span<const std::byte> data = bytes.subspan(kPrefix + text.size());
  HeaderReader reader(data, what);
  Json::sax_parse(text, &reader);
  check_tiling(reader.tensors, data, what);
  if (metadata) *metadata = std::move(reader.metadata);
  return std::move(reader.tensors);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), tensors_(parse_safetensors(file_.bytes(), path.string(), &metadata_)) {}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata) {
  write_safetensors(path, plans_of(tensors), metadata);
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorPlan> tensors,
                       const Metadata& metadata) {
  AtomicFile file(path);
  write_safetensors(file, tensors, metadata);
  file.commit();
}

void write_safetensors(AtomicFile& file, std::span<const TensorPlan> tensors, const Metadata& metadata) {
  const std::string header = make_header(tensors, metadata);
  const uint64_t length = header.size();
  file.write(std::string_view(reinterpret_cast<const char*>(&length), kPrefix));
  file.write(header);
  for (const TensorPlan& t : tensors)
    write_tensor(t, [&](std::span<const std::byte> bytes) { file.write(bytes); });
}

uint64_t safetensors_size(std::span<const TensorView> tensors, const Metadata& metadata) {
  return safetensors_size(plans_of(tensors), metadata);
}

uint64_t safetensors_size(std::span<const TensorPlan> tensors, const Metadata& metadata) {
  uint64_t size = kPrefix + make_header(tensors, metadata).size();
  for (const TensorPlan& t : tensors)
    size = checked_add(size, static_cast<uint64_t>(tensor_bytes(t.dtype, t.shape, t.name)), t.name);
  return size;
}

}  // namespace gatewright
