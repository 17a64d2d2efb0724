// The settings of an engine: named values with a unit, a range, and a time at which they may
// change.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/api.hpp"
#include "sluice/result.hpp"

namespace sluice {

class knobs;

namespace tuning {
struct knob_values;
// For the engine: the values inside, for as long as the knobs object lives.
const knob_values& values(const knobs& k);
}  // namespace tuning

// When a knob may change: fixed when the library is built, before an engine starts, or at any time.
enum class knob_when : std::uint8_t { build, start, live };

// What kind of value a knob takes. The three kinds of bytes accept the binary suffixes K, M, G and
// T; a flag accepts 0/1, off/on, no/yes, false/true; a choice is one of a few words.
enum class knob_type : std::uint8_t {
  bytes,
  bytes_power_of_two,
  bytes_per_second,
  count,
  microseconds,
  milliseconds,
  flag,
  choice,
  text
};

// One knob as it can be shown to people. All views last as long as the program.
struct knob_info {
  std::string_view name;  // "sluice.receive.depth"
  knob_type type;
  std::string value;         // as set() takes it and get() returns it
  std::string_view unit;     // "bytes", "ms", "threads"; empty for flags, choices and texts
  std::string initial;       // the default
  std::string min;           // smallest value; empty where there is none
  std::string max;           // largest value; empty where there is none
  std::string_view choices;  // "auto|ring|pool"; empty but for choices
  knob_when when;
  std::string_view help;  // what it is, then what a larger value costs
};

// Something wrong in a configuration file or in the environment. Never fatal: the value is
// unchanged and reading goes on.
struct knob_problem {
  std::string source;  // the file, or "environment"
  unsigned line = 0;   // counted from 1; 0 where there is none
  std::string text;    // "sluice.ring.entries: 4 is out of range: 8 to 32768 entries"
};

// "/etc/sluice.d/50-ring.conf:3: sluice.ring.entries: ...", for logs and people. Any thread.
[[nodiscard]] SLUICE_API std::string describe(const knob_problem& problem);

// One `name = value` line of a configuration file, not yet checked against the knobs.
struct knob_setting {
  std::string name;
  std::string value;
  unsigned line = 0;            // counted from 1
  bool errors_ignored = false;  // the line began with `-`
};

// Where configuration files lie, weakest first: /usr/lib/sluice.d, /run/sluice.d, /etc/sluice.d.
[[nodiscard]] SLUICE_API std::span<const std::string_view> knob_directories();

// The configuration files that count, in the order they apply, by the rules of sysctl.d(5): every
// *.conf, sorted by file name whatever its directory; a file hides one of the same name in an
// earlier directory of the list; a symbolic link to /dev/null only hides. A missing directory is an
// empty one. Any thread; reads the directories.
[[nodiscard]] SLUICE_API std::vector<std::string> knob_files(
    std::span<const std::string_view> directories);

// The settings of one file, in order. `#` and `;` begin comment lines; a line that is no
// `name = value`, and a file that cannot be read or is larger than 1 MiB, become problems.
// Any thread; reads the file.
[[nodiscard]] SLUICE_API std::vector<knob_setting> read_knob_file(
    const std::string& path, std::vector<knob_problem>* problems = nullptr);

// The value of every knob. A plain value: copies are independent, and an engine takes its own copy,
// so changing a knobs object changes no engine. Not for use from two threads at once.
class SLUICE_API knobs {
 public:
  // Every knob at its default.
  knobs();
  knobs(const knobs& other);
  knobs& operator=(const knobs& other);
  ~knobs();

  // What an engine of this machine should start with: defaults, then the files of
  // knob_directories(), then the environment; the later wins. What is wrong in them is added to
  // `problems` and otherwise ignored. Reads the environment, so no other thread may change it
  // meanwhile (see getenv(3)).
  [[nodiscard]] static knobs from_files(std::vector<knob_problem>* problems = nullptr);

  // Sets every line of one file, or of all files of the directories (weakest directory first).
  void read_file(const std::string& path, std::vector<knob_problem>* problems = nullptr);
  void read_directories(std::span<const std::string_view> directories,
                        std::vector<knob_problem>* problems = nullptr);

  // Sets what the environment names: SLUICE_RECEIVE_PATH for sluice.receive.path. Thread: see
  // from_files.
  void read_environment(std::vector<knob_problem>* problems = nullptr);

  // Sets one knob from text in the knob's own unit. Errors, the value then being unchanged:
  // code::unknown_name; code::out_of_range (beyond min or max, not a power of two where that is
  // asked, not one of the choices); EINVAL (not a value of the knob's type).
  [[nodiscard]] result<void> set(std::string_view name, std::string_view value);

  // The value as text that set() takes back unchanged. Errors: code::unknown_name.
  [[nodiscard]] result<std::string> get(std::string_view name) const;

  // One knob with its value and its description. Errors: code::unknown_name.
  [[nodiscard]] result<knob_info> find(std::string_view name) const;

  // Every knob, in the order of the documentation.
  [[nodiscard]] std::vector<knob_info> list() const;

  // What single ranges cannot say: knobs that contradict each other, such as a completion queue
  // smaller than the submission queue. An engine refuses to start with any; empty means none.
  [[nodiscard]] std::vector<std::string> conflicts() const;

 private:
  friend const tuning::knob_values& tuning::values(const knobs& k);

  std::unique_ptr<tuning::knob_values> values_;
};

// Why `value` was refused for the knob `name`, as a sentence with the range: for people. Any
// thread.
[[nodiscard]] SLUICE_API std::string explain_refusal(std::string_view name, std::string_view value,
                                                     const error& e);

}  // namespace sluice
