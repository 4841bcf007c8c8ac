#include "mapped_file.h"

#include <stdexcept>

#include "lost_pages.h"

namespace switchyard {

MappedFile::MappedFile(const std::string& path) : path_(path), view_(path), state_(view_.Look()) {
  if (is_guarded()) GuardPages(data(), size(), &lost_);
}

MappedFile::MappedFile(size_t size) : path_("(zeros)"), view_(size) {}

MappedFile::~MappedFile() {
  if (is_guarded()) UnguardPages(data());
}

void MappedFile::ReadUncached(uint64_t offset, size_t bytes, std::byte* to) const {
  try {
    view_.ReadUncached(offset, bytes, to);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path_ + ": cannot read " + std::to_string(bytes) + " bytes from byte " +
                             std::to_string(offset) + " on: " + error.what());
  }
}

std::string MappedFile::Change() const {
  if (!view_.is_file()) return "";
  platform::FileState now;
  try {
    now = view_.Look();
  } catch (const std::runtime_error& error) {
    return std::string("it cannot be looked at any more: ") + error.what();
  }
  if (now.bytes != state_.bytes)
    return "it had " + std::to_string(state_.bytes) + " bytes, now it has " + std::to_string(now.bytes);
  if (now.modified != state_.modified) return "it was written to";
  return lost_ ? "a part of it could not be read" : "";
}

}  // namespace switchyard
