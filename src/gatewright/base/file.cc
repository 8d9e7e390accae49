#include "gatewright/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <utility>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

std::string reason() { return std::strerror(errno); }

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (fd_ < 0) fail("cannot open {}: {}", path.string(), reason());
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void write_all(int fd, const char* data, size_t size, const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t n = ::write(fd, data, std::min<size_t>(size, size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("cannot write {}: {}", path.string(), reason());
    data += n;
    size -= static_cast<size_t>(n);
  }
}

std::string read_descriptor(int fd, const std::string& name, uint64_t limit) {
  std::string result;
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot read {}: {}", name, reason());
    if (n == 0) return result;
    if (result.size() + static_cast<size_t>(n) > limit)
      fail("{} is larger than the {} bytes allowed here", name, limit);
    result.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file(path, O_RDONLY);
  struct stat info;
  if (::fstat(file.get(), &info) != 0) fail("cannot read {}: {}", path.string(), reason());
  if (!S_ISREG(info.st_mode)) fail("{} is not a file", path.string());
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail("cannot map {}: {}", path.string(), reason());
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release(std::span<const std::byte> bytes) const {
  const std::less_equal<const std::byte*> before;
  if (bytes.empty() || !before(data_, bytes.data()) || !before(bytes.data() + bytes.size(), data_ + size_))
    return;
  // Whole pages only: their neighbours may be in use.
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = static_cast<size_t>(bytes.data() - data_);
  const size_t first = (begin + page - 1) / page * page, last = (begin + bytes.size()) / page * page;
  if (first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) {
  if (std::filesystem::is_directory(path_)) fail("cannot write {}: it is a folder", path_.string());
  temporary_ += ".partial";
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("cannot write {}: {}", path_.string(), reason());
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  write_all(descriptor_, bytes.data(), bytes.size(), path_);
  written_ += bytes.size();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS)
    fail("cannot write {}: {}", path_.string(), reason());
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const std::string why = reason();
    ::unlink(temporary_.c_str());
    fail("cannot write {}: {}", path_.string(), why);
  }
}

std::string read_file(const std::filesystem::path& path, uint64_t limit) {
  if (path == "-") return read_descriptor(STDIN_FILENO, "standard input", limit);
  if (std::filesystem::is_directory(path)) fail("{} is a folder, a file was expected", path.string());
  const Descriptor file(path, O_RDONLY);
  return read_descriptor(file.get(), path.string(), limit);
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void make_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail("cannot make the folder {}: {}", path.string(), error.message());
  if (!std::filesystem::is_directory(path)) fail("{} is a file, a folder was expected", path.string());
}

void check_room(const std::filesystem::path& folder, uint64_t total_bytes, uint64_t largest_file) {
  const double megabyte = 1e6;
  struct rlimit limit;
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      limit.rlim_cur < largest_file) {
    fail(
        "files of {:.1f} MB will be written to {}, but this process may write files of at most {:.1f} MB "
        "(ulimit -f)",
        static_cast<double>(largest_file) / megabyte, folder.string(),
        static_cast<double>(limit.rlim_cur) / megabyte);
  }
  struct statvfs space;
  if (::statvfs(folder.c_str(), &space) != 0) fail("cannot look at {}: {}", folder.string(), reason());
  const uint64_t free_bytes = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  if (free_bytes < total_bytes) {
    fail("{} needs room for {:.1f} MB, but the file system has {:.1f} MB left", folder.string(),
         static_cast<double>(total_bytes) / megabyte, static_cast<double>(free_bytes) / megabyte);
  }
  const std::filesystem::path probe = folder / ".gatewright-write-probe";
  const int fd = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) fail("cannot write into {}: {}", folder.string(), reason());
  ::close(fd);
  ::unlink(probe.c_str());
}

void ignore_write_signals() {
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
}

}  // namespace gatewright
