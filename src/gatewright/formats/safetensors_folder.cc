#include "gatewright/formats/safetensors_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr uint64_t kLargestIndex = 32'000'000;

/// Tensor -> file, as the index says.
std::map<std::string, std::string> weight_map(const std::filesystem::path& path) {
  const std::string what = path.string();
  const Json index = parse_json(read_file(path, kLargestIndex), what);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  require(index.is_object() && map != index.end() && map->is_object() && !map->empty(),
          "{} is damaged: weight_map, an object that names a file for each tensor, was expected", what);
  std::map<std::string, std::string> result;
  for (const auto& [tensor, file] : map->items()) {
    require(file.is_string(), "{}: the file of {} must be a text", what, Quoted{tensor});
    const auto name = file.get<std::string>();
    require(!name.empty() && name != "." && name != ".." &&
                name.find_first_of(std::string("/\\\0", 3)) == std::string::npos,
            "{}: the file of {} is {}; the name of a file in the same folder was expected", what,
            Quoted{tensor}, Quoted{name});
    result[tensor] = name;
  }
  return result;
}

/// Consecutive tensors that go into one file.
using Shard = std::span<const TensorPlan>;

std::vector<Shard> shards_of(std::span<const TensorPlan> tensors, uint64_t shard_bytes) {
  std::vector<Shard> shards;
  size_t begin = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto size =
        static_cast<uint64_t>(tensor_bytes(tensors[i].dtype, tensors[i].shape, tensors[i].name));
    if (i > begin && bytes + size > shard_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += size;
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

std::string shard_name(size_t i, size_t count) {
  return count == 1 ? kSingle : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, count);
}

std::string index_of(const std::vector<Shard>& shards) {
  OrderedJson map = OrderedJson::object();
  int64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const TensorPlan& tensor : shards[i]) {
      map[tensor.name] = shard_name(i, shards.size());
      total += tensor_bytes(tensor.dtype, tensor.shape, tensor.name);
    }
  }
  return OrderedJson({{"metadata", {{"total_size", total}}}, {"weight_map", map}}).dump(2) + "\n";
}

/// Before anything is written: names that repeat over the shards, and room.
void check_shards(const std::filesystem::path& folder, std::span<const TensorPlan> tensors,
                  const std::vector<Shard>& shards, const Metadata& metadata) {
  std::set<std::string_view> names;
  for (const TensorPlan& t : tensors)
    require(names.insert(t.name).second, "two tensors can't both be saved as {}", Quoted{t.name});
  uint64_t total = 0, largest = 0;
  for (const Shard& shard : shards) {
    const uint64_t size = safetensors_size(shard, metadata);
    total += size;
    largest = std::max(largest, size);
  }
  check_room(folder, total, largest);
  require(
      shards.size() == 1 || !std::filesystem::exists(folder / kSingle),
      "{} has {} already, which would hide the {} files to be written; move it away or choose another folder",
      folder.string(), kSingle, shards.size());
}

}  // namespace

bool SafetensorsFolder::is_in(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / kSingle) || std::filesystem::exists(folder / kIndex);
}

SafetensorsFolder::SafetensorsFolder(const std::filesystem::path& folder) : folder_(folder) {
  require(is_in(folder), "{} has neither {} nor {}", folder.string(), kSingle, kIndex);
  if (std::filesystem::exists(folder / kSingle))
    add(folder / kSingle);
  else
    open_shards();
}

void SafetensorsFolder::open_shards() {
  const std::map<std::string, std::string> map = weight_map(folder_ / kIndex);
  std::set<std::string> names;
  for (const auto& [tensor, file] : map) names.insert(file);
  for (const std::string& name : names) {
    require(std::filesystem::exists(folder_ / name), "{} is missing: {} says that tensors are in it",
            (folder_ / name).string(), kIndex);
    add(folder_ / name);
  }
  for (const auto& [tensor, file] : map) {
    const auto it =
        std::ranges::find(files_, folder_ / file, [](const SafetensorsFile& f) { return f.file().path(); });
    require(it->tensors().contains(tensor), "{} does not hold {}, though {} says so",
            (folder_ / file).string(), Quoted{tensor}, kIndex);
  }
}

void SafetensorsFolder::add(const std::filesystem::path& path) {
  const SafetensorsFile& file = files_.emplace_back(path);
  for (const auto& [name, view] : file.tensors())
    require(tensors_.emplace(name, view).second, "{}: the tensor {} is in another file, too", path.string(),
            Quoted{name});
}

const TensorView& SafetensorsFolder::tensor(const std::string& name) const {
  const auto it = tensors_.find(name);
  require(it != tensors_.end(), "{} has no tensor {}", folder_.string(), Quoted{name});
  return it->second;
}

std::vector<std::filesystem::path> SafetensorsFolder::paths() const {
  std::vector<std::filesystem::path> result;
  for (const SafetensorsFile& file : files_) result.push_back(file.file().path());
  return result;
}

uint64_t SafetensorsFolder::file_bytes() const {
  uint64_t bytes = 0;
  for (const SafetensorsFile& file : files_) bytes += file.file().size();
  return bytes;
}

void SafetensorsFolder::release(std::span<const std::byte> bytes) const {
  for (const SafetensorsFile& file : files_) file.file().release(bytes);
}

std::vector<FolderFile> safetensors_folder_files(std::span<const TensorPlan> tensors,
                                                 const Metadata& metadata, uint64_t shard_bytes) {
  const std::vector<Shard> shards = shards_of(tensors, shard_bytes);
  std::vector<FolderFile> files;
  for (size_t i = 0; i < shards.size(); ++i)
    files.push_back({.name = shard_name(i, shards.size()),
                     .bytes = safetensors_size(shards[i], metadata),
                     .tensors = shards[i]});
  if (shards.size() > 1) files.push_back({.name = kIndex, .bytes = index_of(shards).size()});
  return files;
}

void write_safetensors_folder(const std::filesystem::path& folder, std::span<const TensorPlan> tensors,
                              const Metadata& metadata, uint64_t shard_bytes) {
  const std::vector<Shard> shards = shards_of(tensors, shard_bytes);
  check_shards(folder, tensors, shards, metadata);
  std::vector<std::unique_ptr<AtomicFile>> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    files.push_back(std::make_unique<AtomicFile>(folder / shard_name(i, shards.size())));
    write_safetensors(*files.back(), shards[i], metadata);
  }
  for (const auto& file : files) file->commit();
  if (shards.size() > 1) write_file(folder / kIndex, index_of(shards));
}

}  // namespace gatewright
