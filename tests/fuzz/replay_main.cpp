// Runs a fuzz target without libFuzzer: every file of its corpus, then mutations of them that a
// seed fixes, for a bounded time. An input that ends the process is told before that.
//
//   TARGET CORPUS_DIRECTORY [SECONDS]
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes);

namespace {

using input = std::vector<std::uint8_t>;

constexpr std::size_t input_bytes_max = 16 << 10;
constexpr const char* crash_file = "fuzz-crash";
const input* current = nullptr;  // for the signal's handler

extern "C" void keep_input(int number) {
  const int fd = ::open(crash_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd >= 0 && current != nullptr) {
    const ssize_t written = ::write(fd, current->data(), current->size());
    static_cast<void>(written);
  }
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void run(const input& one) {
  current = &one;
  LLVMFuzzerTestOneInput(one.data(), one.size());
  current = nullptr;
}

std::vector<input> read_all(const char* directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    paths.push_back(entry.path());
  std::ranges::sort(paths);  // so that mutations are the same everywhere
  std::vector<input> all;
  for (const auto& path : paths) {
    std::ifstream in(path, std::ios::binary);
    all.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return all;
}

// Some bytes changed, taken out, put in, or taken from another input.
class mutator {
 public:
  explicit mutator(const std::vector<input>& corpus) : corpus_(corpus) {}

  input next() {
    input made = corpus_[below(corpus_.size())];
    for (std::size_t i = 1 + below(4); i > 0; --i) change(made);
    if (made.size() > input_bytes_max) made.resize(input_bytes_max);
    return made;
  }

 private:
  std::size_t below(std::size_t bound) { return random_() % std::max<std::size_t>(bound, 1); }
  void change(input& of) {
    const std::size_t at = below(of.size() + 1);
    const std::size_t left = of.size() - at;
    const auto begin = of.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(6)) {
      case 0:
        if (left > 0) *begin ^= static_cast<std::uint8_t>(1U << below(8));
        break;
      case 1:
        if (left > 0) *begin = static_cast<std::uint8_t>(random_());
        break;
      case 2: of.erase(begin, begin + static_cast<std::ptrdiff_t>(below(left + 1))); break;
      case 3:
        of.insert(begin, below(9), static_cast<std::uint8_t>("0e:ild\xff\0i"[below(9)]));
        break;
      case 4: {  // a part once more
        const input part(
            begin, begin + static_cast<std::ptrdiff_t>(below(std::min<std::size_t>(left, 64) + 1)));
        of.insert(of.begin() + static_cast<std::ptrdiff_t>(below(of.size() + 1)), part.begin(),
                  part.end());
        break;
      }
      default: {
        const input& other = corpus_[below(corpus_.size())];
        const auto from = other.begin() + static_cast<std::ptrdiff_t>(below(other.size() + 1));
        of.erase(begin, of.end());
        of.insert(of.end(), from, other.end());
      }
    }
  }
  const std::vector<input>& corpus_;
  std::mt19937_64 random_{20080110};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  std::signal(SIGABRT, keep_input);
  std::signal(SIGSEGV, keep_input);
  const std::vector<input> corpus = read_all(argv[1]);
  if (corpus.empty()) return 1;
  for (const input& one : corpus) run(one);
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  mutator made(corpus);
  std::size_t count = 0;
  for (; std::chrono::steady_clock::now() < end; ++count) run(made.next());
  std::printf("%zu inputs, %zu mutations\n", corpus.size(), count);
  return 0;
}
