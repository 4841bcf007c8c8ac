// Memory that cannot be had, and how much of it.
#pragma once
#include <cstddef>
#include <new>
#include <string>

namespace switchyard {

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(size_t bytes) : message_("cannot allocate " + std::to_string(bytes) + " bytes") {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

}  // namespace switchyard
