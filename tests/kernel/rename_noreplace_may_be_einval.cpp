// renameat2 with RENAME_NOREPLACE is EEXIST when the name is taken; a flag that is not known is
// EINVAL. Neither changes anything.
#include <stdio.h>
#include <sys/syscall.h>

#include "probe.hpp"

namespace {

constexpr unsigned no_such_flag = 1U << 20U;

void make(int directory, const char* name, std::string_view content) {
  const probe::descriptor file(static_cast<int>(probe::must(
      ::openat(directory, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600), "openat")));
  probe::must(::write(file.get(), content.data(), content.size()), "write");
}

char first_byte(int directory, const char* name) {
  const probe::descriptor file(
      static_cast<int>(probe::must(::openat(directory, name, O_RDONLY | O_CLOEXEC), "openat")));
  char byte = 0;
  probe::must(::read(file.get(), &byte, 1), "read");
  return byte;
}

void show() {
  const probe::temp_dir dir;
  const probe::descriptor at(static_cast<int>(
      probe::must(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open")));
  make(at.get(), "old", "o");
  make(at.get(), "taken", "t");
  const auto rename = [&at](const char* to, unsigned flags) {
    return probe::result_of(::syscall(SYS_renameat2, at.get(), "old", at.get(), to, flags));
  };
  const long taken = rename("taken", RENAME_NOREPLACE);
  if (taken == -EINVAL) probe::skip("this filesystem has no RENAME_NOREPLACE");
  probe::expect_equal(taken, -EEXIST, "a taken name");
  probe::expect(first_byte(at.get(), "taken") == 't', "the taken name is as it was");
  probe::expect_equal(rename("new", no_such_flag), -EINVAL, "a flag that is not known");
  probe::expect(first_byte(at.get(), "old") == 'o', "the old name is as it was");
  probe::expect_equal(rename("new", RENAME_NOREPLACE), 0, "a free name");
}

}  // namespace

int main() { return probe::run(show); }
