// Files: read through memory maps or whole with a bound, written beside and renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace gatewright {

/// A file mapped read-only. Errors name the file and the reason.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  /// Tells the system that these bytes are not needed soon: they leave memory and are read again when they
  /// are touched. Bytes of another file are ignored.
  void release(std::span<const std::byte> bytes) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A file under construction: written beside `path` and renamed over it by commit(); without commit() the
/// destructor removes it and what was at `path` stays. Failed writes (full disk, size limit) throw.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);
  void write(std::span<const std::byte> bytes);
  uint64_t written() const { return written_; }
  /// Flushes to the disk and renames.
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  uint64_t written_ = 0;
};

/// Whole contents; a file larger than `limit` bytes is an error. "-" reads standard input.
std::string read_file(const std::filesystem::path& path, uint64_t limit = uint64_t{1} << 32);
/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view bytes);
/// Makes the folder and, when it must, its parents; fails when something else is there.
void make_folder(const std::filesystem::path& path);
/// Finds out before long work whether `folder` can take `total_bytes` more in all, and `largest_file` in one
/// file: writable, room on the file system, the process's file-size limit.
void check_room(const std::filesystem::path& folder, uint64_t total_bytes, uint64_t largest_file);

/// From here on a write past the file-size limit is an error (EFBIG) and not a signal, and so is a closed
/// pipe.
void ignore_write_signals();

}  // namespace gatewright
