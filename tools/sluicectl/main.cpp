// sluicectl: shows and checks the knobs of sluice, in the manners of sysctl(8).
//
// With --control it asks a live process by its control socket. Without, it answers from the
// defaults, the configuration files and the environment: what an engine started now would use.
//
//   main            command line and commands
//   options         its values, and complaints
//   holders         where knobs are read and set; control_client: the way to a live process
//   output          lines, tables and JSON; man_page: sluice.conf(5)
#include <fmt/format.h>
#include <stdio.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <exception>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "control_client.hpp"
#include "holders.hpp"
#include "options.hpp"
#include "output.hpp"
#include "sluice/control.hpp"
#include "sluice/engine.hpp"
#include "sluice/knobs.hpp"

namespace {

using sluice::knob_info;
using sluice::knob_problem;
using sluice::knobs;
using namespace sluicectl;

void warn(const std::vector<knob_problem>& problems) {
  for (const knob_problem& p : problems) complain(describe(p));
}

int show(const options& o, knob_holder& holder, const std::vector<std::string>& names) {
  int status = exit_good;
  const name_filter wanted(o.pattern);
  const std::vector<knob_info> all = holder.list();
  std::vector<knob_info> shown;
  const auto add = [&](auto&& chosen) {
    std::ranges::copy_if(all, std::back_inserter(shown), [&](const knob_info& info) {
      return chosen(info.name) && wanted(info.name);
    });
  };
  if (o.all) add([](std::string_view) { return true; });
  for (const std::string& name : names) {
    const auto named = [&](std::string_view which) { return is_at_or_below(which, name); };
    if (!o.unknown_ignored && std::ranges::none_of(all, named, &knob_info::name))
      status = complain(name + ": no such knob");
    add(named);
  }
  print_knobs(o, shown);
  return status;
}

// The engine that this machine would start now.
knobs knobs_of_machine() {
  std::vector<knob_problem> problems;
  knobs k = knobs::from_files(&problems);
  warn(problems);
  return k;
}

// --set: an engine that would be started with these as well.
int apply_settings(const options& o, knobs& k) {
  int status = exit_good;
  future_knobs holder(k);
  for (const std::string& word : o.settings) {
    const auto given = assignment(word);
    if (!given) {
      status = complain(fmt::format("--set {}: write it as NAME=VALUE", word));
    } else if (const auto done = holder.set(given->first, given->second); !done) {
      status = complain(fmt::format("--set {}: {}", word, done.error()));
    }
  }
  return status;
}

// Sets the lines of one file, printing each as it is taken.
int apply_file(const options& o, knob_holder& holder, const std::string& path) {
  const name_filter wanted(o.pattern);
  std::vector<knob_problem> problems;
  const std::vector<sluice::knob_setting> settings = read_knob_file(path, &problems);
  int status = problems.empty() ? exit_good : exit_bad;
  warn(problems);
  for (const sluice::knob_setting& s : settings) {
    if (!wanted(s.name)) continue;
    const auto done = holder.set(s.name, s.value);
    if (done) {
      if (!o.quiet) print_line(o, s.name, *done);
      continue;
    }
    if (s.errors_ignored || (o.unknown_ignored && !holder.knows(s.name))) continue;
    status = complain(fmt::format("{}:{}: {}", path, s.line, done.error()));
  }
  return status;
}

int apply_files(const options& o, knob_holder& holder) {
  int status = exit_good;
  for (const std::string& path : o.files) status |= apply_file(o, holder, path);
  return status;
}

int apply_system(const options& o, knob_holder& holder) {
  int status = exit_good;
  for (const std::string& path : sluice::knob_files(sluice::knob_directories())) {
    if (!o.quiet) fmt::print("* Applying {} ...\n", path);
    status |= apply_file(o, holder, path);
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
  future_knobs holder(k);
  const int status = apply_files(o, holder);
  return status | check_conflicts(k);
}

// --system: the files of the configuration directories, in the order they apply.
int check_system(const options& o) {
  knobs k;
  future_knobs holder(k);
  const int status = apply_system(o, holder);
  return status | check_conflicts(k);
}

std::vector<std::string> lines_of(std::string_view answer) {
  std::vector<std::string> lines;
  for (std::size_t end = 0; (end = answer.find('\n')) != answer.npos && end != 0;) {
    lines.emplace_back(answer.substr(0, end));
    answer.remove_prefix(end + 1);
  }
  return lines;
}

// Starts an engine as one would start now, and asks it.
int probe_machine(const options& o) {
  knobs k = knobs_of_machine();
  if (apply_settings(o, k) != exit_good || check_conflicts(k) != exit_good) return exit_bad;
  sluice::result<sluice::engine> made = sluice::engine::create(k, [](auto level, auto text) {
    if (level != sluice::log_level::info) complain(text);
  });
  if (!made) return complain("no engine can be started: " + describe(made.error()));
  print_probe(o, lines_of(control_answer(sluice::control_of(*made), "probe")));
  return exit_good;
}

// stats [NAME...]
int show_stats(const options& o, control_client& process) {
  const name_filter wanted(o.pattern);
  const std::span names = std::span(o.words).subspan(1);
  std::vector<std::string> lines = process.need("stats");
  int status = exit_good;
  for (const std::string& name : names) {
    const auto counts = [&](std::string_view line) {
      return is_at_or_below(split_line(line).first, name);
    };
    if (!o.unknown_ignored && std::ranges::none_of(lines, counts))
      status = complain(name + ": no such counter");
  }
  std::erase_if(lines, [&](std::string_view line) {
    const std::string_view which = split_line(line).first;
    const auto names_it = [which](std::string_view n) { return is_at_or_below(which, n); };
    return !wanted(which) || (!names.empty() && std::ranges::none_of(names, names_it));
  });
  print_counters(o, lines);
  return status;
}

// The words of the command line at a live process: every NAME=VALUE is set, every NAME is shown.
int set_and_show(const options& o, knob_holder& holder) {
  int status = exit_good;
  std::vector<std::string> to_show;
  for (const std::string& word : o.words) {
    const auto given = assignment(word);
    if (!given && o.write) {
      status = complain(word + ": write it as NAME=VALUE");
    } else if (!given) {
      to_show.push_back(word);
    } else if (const auto done = holder.set(given->first, given->second); done) {
      if (o.json && !o.quiet)
        to_show.push_back(given->first);
      else if (!o.quiet)
        print_line(o, given->first, *done);
    } else if (!o.unknown_ignored || holder.knows(given->first)) {
      status = complain(done.error());
    }
  }
  if (o.all || !to_show.empty()) status |= show(o, holder, to_show);
  return status;
}

bool assigns(const options& o) {
  for (const std::string& word : o.words)
    if (o.write || word.find('=') != std::string::npos) return true;
  return o.write;
}

bool asks(const options& o, std::string_view command) {
  return !o.words.empty() && o.words[0] == command;
}

int run_live(const options& o) {
  if (!o.settings.empty())
    return complain("--set is for an engine that is not started; -w sets in a live one");
  control_client process(o.control);
  if (asks(o, "stats")) return show_stats(o, process);
  if (asks(o, "probe")) {
    print_probe(o, process.need("probe"));
    return exit_good;
  }
  if (asks(o, "clear-suspects")) {
    for (const std::string& line : process.need("clear-suspects")) fmt::print("{}\n", line);
    return exit_good;
  }
  live_knobs holder(process);
  if (o.system) return apply_system(o, holder);
  if (!o.files.empty()) return apply_files(o, holder);
  if (o.write && o.words.empty()) return complain("-w: write what to set as NAME=VALUE");
  return set_and_show(o, holder);
}

int run(const options& o) {
  if (o.man) {
    print_man_page();
    return exit_good;
  }
  if (asks(o, "probe") && o.words.size() > 1)
    return complain("probe: takes no names; --set NAME=VALUE tries another configuration");
  if (!o.control.empty()) return run_live(o);
  if (asks(o, "probe")) return probe_machine(o);
  if (asks(o, "clear-suspects"))
    return complain(
        "clear-suspects: only a live process knows of a failed sync; name its socket by --control "
        "SOCKET");
  if (asks(o, "stats"))
    return complain("stats: only a live process has counters; name its socket by --control SOCKET");
  if (assigns(o))
    return complain(
        "setting a knob needs a running engine (--control SOCKET); for engines started "
        "later, put the line into a file /etc/sluice.d/NAME.conf");
  if (o.system) return check_system(o);
  if (!o.files.empty()) return check_files(o);
  knobs k = knobs_of_machine();
  const int status = apply_settings(o, k);
  future_knobs holder(k);
  return status | show(o, holder, o.words);
}

void declare(CLI::App& app, options& o) {
  app.set_version_flag("-V,--version", "sluicectl " SLUICE_VERSION);
  app.add_option(
      "NAME", o.words,
      "knobs, or groups of knobs, to show; or the word probe: what an engine can do on "
      "this machine, and why not; or stats [NAME...]: the counters of a live process; or "
      "clear-suspects: publish again where a sync had failed");
  app.add_flag("-a,--all", o.all, "show every knob");
  app.add_flag("-d,--describe", o.describe, "show what knobs are instead of their values");
  app.add_flag("-e,--ignore", o.unknown_ignored, "unknown names are no error");
  app.add_flag("-n,--values", o.values_only, "print values without names");
  app.add_flag("-N,--names", o.names_only, "print names without values");
  app.add_option("-p,--load", o.files, "set what these files say; without --control, check it")
      ->type_name("FILE");
  app.add_flag("-q,--quiet", o.quiet, "do not print what is set");
  app.add_option("-r,--pattern", o.pattern,
                 "only names that match this extended regular expression");
  app.add_flag("-w,--write", o.write, "set NAME=VALUE in a running engine");
  app.add_option("--set", o.settings, "as if an engine were started with NAME=VALUE")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false)
      ->take_all();
  app.add_flag("--system", o.system, "as -p with all files of the configuration directories");
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
