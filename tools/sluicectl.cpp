// sluicectl: shows and checks the knobs of sluice, in the manners of sysctl(8).
//
// Without --control it answers from the defaults, the configuration files and the environment: what
// an engine started now would use.
#include <fmt/format.h>
#include <stdio.h>

#include <charconv>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "sluice/knobs.hpp"

namespace {

using sluice::knob_info;
using sluice::knob_problem;
using sluice::knob_type;
using sluice::knob_when;
using sluice::knobs;

struct options {
  std::string control;
  std::string pattern;
  std::vector<std::string> words;  // NAME, NAME=VALUE, or one of the commands
  std::vector<std::string> files;  // of -p
  bool all = false;
  bool write = false;
  bool values_only = false;
  bool names_only = false;
  bool unknown_ignored = false;
  bool quiet = false;
  bool system = false;
  bool json = false;
  bool describe = false;
  bool man = false;
};

constexpr int exit_good = 0;
constexpr int exit_bad = 1;

int complain(std::string_view text) {
  fmt::print(stderr, "sluicectl: {}\n", text);
  return exit_bad;
}

std::string_view when_text(knob_when when) {
  switch (when) {
    case knob_when::build: return "build";
    case knob_when::start: return "start";
    case knob_when::live: return "live";
  }
  return "";
}

// A number where the knob is one, so that jq(1) can compare it.
nlohmann::ordered_json json_value(knob_type type, const std::string& text) {
  if (type == knob_type::flag) return text == "on";
  if (type == knob_type::choice || type == knob_type::text) return text;
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

nlohmann::ordered_json json_knob(const knob_info& info) {
  nlohmann::ordered_json knob = {{"value", json_value(info.type, info.value)},
                                 {"default", json_value(info.type, info.initial)}};
  if (!info.unit.empty()) knob["unit"] = info.unit;
  if (!info.min.empty()) knob["min"] = json_value(info.type, info.min);
  if (!info.max.empty()) knob["max"] = json_value(info.type, info.max);
  if (!info.choices.empty()) knob["choices"] = info.choices;
  knob["when"] = when_text(info.when);
  knob["help"] = info.help;
  return knob;
}

std::string range_text(const knob_info& info) {
  if (info.type == knob_type::flag) return "on or off";
  if (info.type == knob_type::text) return "text";
  if (info.type == knob_type::choice) return std::string(info.choices);
  const char* extra = info.type == knob_type::bytes_power_of_two ? ", a power of two" : "";
  return fmt::format("{} to {} {}{}", info.min, info.max, info.unit, extra);
}

void print_line(const options& o, std::string_view name, std::string_view value) {
  if (o.names_only) {
    fmt::print("{}\n", name);
  } else if (o.values_only) {
    fmt::print("{}\n", value);
  } else {
    fmt::print("{} = {}\n", name, value);
  }
}

void print_knobs(const options& o, const std::vector<knob_info>& shown) {
  if (o.json) {
    nlohmann::ordered_json all = nlohmann::ordered_json::object();
    for (const knob_info& info : shown) all[std::string(info.name)] = json_knob(info);
    fmt::print("{}\n", all.dump(2));
    return;
  }
  for (const knob_info& info : shown) {
    if (o.describe) {
      fmt::print("{}: {} ({}; default {}; {})\n", info.name, info.help, range_text(info),
                 info.initial.empty() ? "empty" : info.initial, when_text(info.when));
    } else {
      print_line(o, info.name, info.value);
    }
  }
}

// -r PATTERN: which names count; all of them without it.
class name_filter {
 public:
  explicit name_filter(const std::string& pattern) {
    if (!pattern.empty()) expression_.emplace(pattern, std::regex::extended);
  }
  bool operator()(std::string_view name) const {
    return !expression_ || std::regex_search(name.begin(), name.end(), *expression_);
  }

 private:
  std::optional<std::regex> expression_;
};

void warn(const std::vector<knob_problem>& problems) {
  for (const knob_problem& p : problems) complain(describe(p));
}

// The knob of that name, or, as sysctl does with a directory, every knob below it.
std::vector<knob_info> at_or_below(const knobs& k, std::string_view name) {
  std::vector<knob_info> found;
  const std::string prefix = std::string(name) + ".";
  for (knob_info& info : k.list())
    if (info.name == name || info.name.starts_with(prefix)) found.push_back(std::move(info));
  return found;
}

int show(const options& o) {
  std::vector<knob_problem> problems;
  const knobs k = knobs::from_files(&problems);
  warn(problems);

  int status = exit_good;
  const name_filter wanted(o.pattern);
  std::vector<knob_info> shown;
  const auto add = [&](std::vector<knob_info> found) {
    for (knob_info& info : found)
      if (wanted(info.name)) shown.push_back(std::move(info));
  };
  if (o.all) add(k.list());
  for (const std::string& name : o.words) {
    std::vector<knob_info> found = at_or_below(k, name);
    if (found.empty() && !o.unknown_ignored) status = complain(name + ": no such knob");
    add(std::move(found));
  }
  print_knobs(o, shown);
  return status;
}

// Sets the lines of one file in `k`, printing each as it is taken.
int apply_file(const options& o, knobs& k, const std::string& path) {
  const name_filter wanted(o.pattern);
  std::vector<knob_problem> problems;
  const std::vector<sluice::knob_setting> settings = read_knob_file(path, &problems);
  int status = problems.empty() ? exit_good : exit_bad;
  warn(problems);
  for (const sluice::knob_setting& s : settings) {
    if (!wanted(s.name)) continue;
    const sluice::result<void> done = k.set(s.name, s.value);
    if (done) {
      if (!o.quiet) print_line(o, s.name, *k.get(s.name));
      continue;
    }
    const bool unknown = done.error().code == sluice::code::unknown_name;
    if (s.errors_ignored || (unknown && o.unknown_ignored)) continue;
    const std::string why = explain_refusal(s.name, s.value, done.error());
    status = complain(fmt::format("{}:{}: {}", path, s.line, why));
  }
  return status;
}

int check_conflicts(const knobs& k) {
  int status = exit_good;
  for (const std::string& conflict : k.conflicts()) status = complain(conflict);
  return status;
}

// -p FILE...: would an engine take these files, on top of what it reads anyway?
int check_files(const options& o) {
  knobs k = knobs::from_files();
  int status = exit_good;
  for (const std::string& path : o.files) status |= apply_file(o, k, path);
  return status | check_conflicts(k);
}

// --system: the files of the configuration directories, in the order they apply.
int check_system(const options& o) {
  knobs k;
  int status = exit_good;
  for (const std::string& path : sluice::knob_files(sluice::knob_directories())) {
    if (!o.quiet) fmt::print("* Applying {} ...\n", path);
    status |= apply_file(o, k, path);
  }
  return status | check_conflicts(k);
}

// Text for troff(1): no escapes, no hyphens that a reader could not paste, no line that is a
// request.
std::string troff(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '\\')
      safe += "\\e";
    else if (c == '-')
      safe += "\\-";
    else
      safe += c;
  }
  return safe.starts_with('.') || safe.starts_with('\'') ? "\\&" + safe : safe;
}

constexpr std::string_view man_head = R"(.TH SLUICE.CONF 5 "" "sluice {0}" "File formats"
.SH NAME
sluice.conf \- knobs of the sluice engine
.SH SYNOPSIS
/etc/sluice.d/*.conf
.br
/run/sluice.d/*.conf
.br
/usr/lib/sluice.d/*.conf
.SH DESCRIPTION
An engine that reads its settings from files takes every line
.IR "name " = " value"
of these files, by the rules of
.BR sysctl.d (5):
files apply in the order of their names whatever their directory, a later line wins, and a file
in /etc hides one of the same name in /run, which hides one in /usr/lib.
A symbolic link to /dev/null only hides.
Lines that begin with # or ; are comments; a name that begins with \- has its errors ignored.
.PP
The environment wins over the files: SLUICE_RECEIVE_PATH sets sluice.receive.path.
.PP
A value out of range is refused and changes nothing.
Values counted in bytes take the suffixes K, M, G and T, powers of 1024.
.SH KNOBS
)";

constexpr std::string_view man_tail = R"(.SH SEE ALSO
.BR sysctl (8),
.BR sysctl.d (5),
.BR io_uring (7)
)";

int print_man_page() {
  fmt::print(fmt::runtime(man_head), SLUICE_VERSION);
  for (const knob_info& info : knobs().list()) {
    const std::string initial = info.initial.empty() ? "empty" : info.initial;
    fmt::print(".TP\n.B {}\n{}\n.br\nRange: {}. Default: {}. Set: {}.\n", troff(info.name),
               troff(info.help), troff(range_text(info)), troff(initial),
               info.when == knob_when::live ? "at any time" : "before the engine starts");
  }
  fmt::print("{}", man_tail);
  return exit_good;
}

bool assigns(const options& o) {
  for (const std::string& word : o.words)
    if (o.write || word.find('=') != std::string::npos) return true;
  return o.write;
}

int run(const options& o) {
  if (o.man) return print_man_page();
  if (!o.control.empty()) return complain("--control: this version cannot speak to an engine");
  if (!o.words.empty() && (o.words[0] == "probe" || o.words[0] == "stats"))
    return complain(o.words[0] + ": this version cannot ask an engine");
  if (assigns(o))
    return complain(
        "setting a knob needs a running engine (--control SOCKET); for engines started "
        "later, put the line into a file /etc/sluice.d/NAME.conf");
  if (o.system) return check_system(o);
  if (!o.files.empty()) return check_files(o);
  return show(o);
}

void declare(CLI::App& app, options& o) {
  app.set_version_flag("-V,--version", "sluicectl " SLUICE_VERSION);
  app.add_option("NAME", o.words, "knobs, or groups of knobs, to show");
  app.add_flag("-a,--all", o.all, "show every knob");
  app.add_flag("-d,--describe", o.describe, "show what knobs are instead of their values");
  app.add_flag("-e,--ignore", o.unknown_ignored, "unknown names are no error");
  app.add_flag("-n,--values", o.values_only, "print values without names");
  app.add_flag("-N,--names", o.names_only, "print names without values");
  app.add_option("-p,--load", o.files, "check the settings of these files")->type_name("FILE");
  app.add_flag("-q,--quiet", o.quiet, "do not print what is set");
  app.add_option("-r,--pattern", o.pattern,
                 "only names that match this extended regular expression");
  app.add_flag("-w,--write", o.write, "set NAME=VALUE in a running engine");
  app.add_flag("--system", o.system, "check the settings of all configuration directories");
  app.add_flag("--json", o.json, "print one JSON object: values, ranges and help by name");
  app.add_flag("--man", o.man, "print the manual page sluice.conf(5)");
  app.add_option("--control", o.control, "the control socket of a running engine")
      ->type_name("SOCKET");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    CLI::App app("Shows and checks the knobs of sluice.", "sluicectl");
    options o;
    declare(app, o);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
      return app.exit(e) == 0 ? exit_good : exit_bad;
    }
    if (argc == 1) {
      fmt::print(stderr, "{}", app.help());
      return exit_bad;
    }
    const int status = run(o);
    return fflush(stdout) == 0 ? status : complain("cannot write the output");
  } catch (const std::regex_error& e) {
    return complain(std::string("-r: ") + e.what());
  } catch (const std::exception& e) {
    return complain(e.what());
  }
}
