/*
 * main: the program: options, load, reports, exit code.
 *
 *   options -> open report files -> plan (runs) -> reports -> exit code
 *
 * Report files are opened before the load starts, so that a path that cannot be written fails at
 * once.  The first SIGINT or SIGTERM ends the current run and skips the rest of the plan; what was
 * measured is reported.  The second one ends the process at once.  The same signal again within
 * 100 ms is not a second one.
 */
#include "core/sys.h"
#include "core/streams.h"
#include "escaped.h"
#include "identity.h"
#include "dial.h"
#include "objective.h"
#include "load.h"
#include "plan.h"
#include "options.h"
#include "report.h"
#include "compare.h"
#include "merge.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum file { FILE_JSON, FILE_CSV, FILE_HDR, FILE_HTML, FILES };

struct bench {
  struct options options;
  struct plan plan;
  const char *paths[FILES]; /* borrowed from the options; NULL = none */
  FILE *files[FILES];       /* owns; NULL = none; stdout for "-" */
  struct first_connection first;
  FILE *text;        /* owns: of the text report; stdout unless a file is stdout */
  bool is_unwritten; /* a report could not be written */
};

/* The errno of the first write to standard output that failed; 0 = none. */
static int output_error;

/* ---- signals ---- */

/* A signal that comes again within this time is the same one, as timeout(1) sends it. */
#define REPEAT_NS (100 * NS_PER_MS)

/* The handler of both signals, which block each other. Only the coordinator's thread runs it. */
static void on_signal(int signum) {
  static int first; /* 0 = none */
  static uint64_t first_ns;
  const uint64_t now_ns = sys_now_ns();
  if (first == 0) {
    first = signum;
    first_ns = now_ns;
    load_interrupt();
  } else if (signum != first || now_ns - first_ns >= REPEAT_NS) {
    _exit(BENCH_INTERRUPTED);
  }
}

static void handle_signals(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGINT);
  sigaddset(&action.sa_mask, SIGTERM);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* ---- reports ---- */

/* Write what standard output holds; finish_output tells of a failure. */
static void flush_output(void) {
  if (streams_flush(stdout) == -1 && output_error == 0) {
    output_error = errno;
  }
}

static int open_files(struct bench *b) {
  bool has_output = false;
  b->paths[FILE_JSON] = b->options.json;
  b->paths[FILE_CSV] = b->options.csv;
  b->paths[FILE_HDR] = b->options.hdr;
  b->paths[FILE_HTML] = b->options.html;
  for (int i = 0; i < FILES; i++) {
    if (b->paths[i] == NULL) {
      continue;
    }
    const bool is_output = strcmp(b->paths[i], "-") == 0;
    b->files[i] = is_output ? stdout : fopen(b->paths[i], "we");
    if (b->files[i] == NULL) {
      escaped_line(stderr, "xchg-bench: cannot write '%s': %s", b->paths[i], strerror(errno));
      return -1;
    }
    has_output = has_output || is_output;
  }
  b->text = has_output ? fopen("/dev/null", "we") : stdout;
  if (b->text == NULL) {
    fprintf(stderr, "xchg-bench: cannot write '/dev/null': %s\n", strerror(errno));
    return -1;
  }
  return 0;
}

/* Close the files; this flushes them, so a write error may show only here. */
static void close_files(struct bench *b) {
  for (int i = 0; i < FILES; i++) {
    if (b->files[i] == NULL || b->files[i] == stdout) {
      b->files[i] = NULL; /* finish_output writes the rest of standard output */
      continue;
    }
    bool is_bad = ferror(b->files[i]) != 0;
    if (fclose(b->files[i]) != 0 || is_bad) {
      escaped_line(stderr, "xchg-bench: cannot write '%s': %s", b->paths[i], strerror(errno));
      b->is_unwritten = true;
    }
    b->files[i] = NULL;
  }
}

static void write_texts(const struct bench *b) {
  const struct options *options = &b->options;
  FILE *out = b->text;
  for (uint32_t i = 0; i < b->plan.runs_count; i++) {
    if (b->plan.runs_count > 1) {
      fprintf(out, "%s %u of %u\n", options->steps > 0 ? "Step" : "Run", i + 1, b->plan.runs_count);
    }
    report_text(out, options, b->plan.runs[i]);
  }
  if (b->plan.runs_count > 1) {
    report_text_runs(out, options, b->plan.runs, b->plan.runs_count);
  }
  flush_output(); /* the files that follow may be slow */
}

static int write_files(struct bench *b) {
  struct result *sum = plan_sum(&b->plan, &b->options);
  if (sum == NULL) {
    return -1;
  }
  if (b->files[FILE_JSON] != NULL) {
    report_json(b->files[FILE_JSON], &b->options, b->plan.runs, b->plan.runs_count);
  }
  if (b->files[FILE_CSV] != NULL) {
    report_csv(b->files[FILE_CSV], sum);
  }
  if (b->files[FILE_HDR] != NULL) {
    hdr_write_hgrm(sum->latency, sum->unfinished_times[TIMES_LATENCY], b->files[FILE_HDR]);
  }
  if (b->files[FILE_HTML] != NULL) {
    report_html(b->files[FILE_HTML], &b->options, sum);
  }
  result_destroy(sum);
  return 0;
}

/* ---- the exit code ---- */

/* Print what the search has found. */
static void judge_search(const struct bench *b) {
  fprintf(b->text, "Highest rate with %s: ", b->options.search_objective.text);
  if (b->plan.searched_rate > 0) {
    fprintf(b->text, "%.0f/s\n", b->plan.searched_rate);
  } else if (b->plan.probed_rate > 0) {
    fprintf(b->text, "none; a probe kept %.0f/s, but no run of the full duration\n",
            b->plan.probed_rate);
  } else {
    fputs("none\n", b->text);
  }
}

/* Print the value of each objective. Return: whether all were met. */
static bool judge_objectives(const struct bench *b) {
  bool kept = true;
  for (uint32_t i = 0; i < b->options.slo_count; i++) {
    const struct objective *objective = &b->options.slo[i];
    char text[64];
    double value = plan_objective_value(&b->plan, &b->options, objective);
    bool keeps = objective_is_met(objective, value);
    fprintf(b->text, "Objective %s: %s, %s\n", objective->text,
            objective_format(objective, value, text, sizeof(text)), keeps ? "kept" : "missed");
    kept = kept && keeps;
  }
  if (!b->options.search || b->plan.interrupted) {
    return kept;
  }
  judge_search(b);
  return kept && b->plan.searched_rate > 0;
}

static int judge(const struct bench *b) {
  bool any = false, wrong = false;
  for (uint32_t i = 0; i < b->plan.runs_count; i++) {
    const struct result *result = b->plan.runs[i];
    any = any || result->exchanges > 0 || (!result->has_latency && result->bytes_out > 0);
    wrong = wrong || result->errors[ERROR_WRONG] > 0;
  }
  bool kept = judge_objectives(b);
  if (b->plan.interrupted) {
    return BENCH_INTERRUPTED;
  }
  if (!any || wrong || b->is_unwritten) {
    return BENCH_FAILED;
  }
  return kept ? BENCH_OK : BENCH_MISSED;
}

/* ---- the program ---- */

/* Raise the limit of descriptors, and check that each connection can have one. */
static int raise_descriptors(const struct options *options) {
  const uint64_t needed = (uint64_t)options->connections + options->idle + LOAD_DESCRIPTORS_BASE +
                          UINT64_C(2) * options->threads;
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
    return 0;
  }
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit); /* if it fails, the connections will report it */
  if (needed <= limit.rlim_max) {
    return 0;
  }
  fprintf(
      stderr,
      "xchg-bench: --connections '%u', --idle '%u': this process is limited to %llu descriptors\n",
      options->connections, options->idle, (unsigned long long)limit.rlim_max);
  return -1;
}

/* Choose among the addresses of a name, and tell which. */
static void choose_address(struct bench *b) {
  struct options *options = &b->options;
  struct identity *identity = &options->identity;
  const uint32_t number = dial_choose(options, &b->first);
  addr_format_listen(&options->address, identity->address, sizeof(identity->address));
  if (number > 0) {
    fprintf(b->text, "  Address: %s, number %u of %u of the name\n", identity->address, number,
            options->addresses_count);
  } else if (options->addresses_count > 1) {
    fprintf(b->text, "  Address: %s; none of %u of the name answers\n", identity->address,
            options->addresses_count);
  }
}

static int measure(struct bench *b) {
  handle_signals();
  report_text_begin(b->text, &b->options);
  choose_address(b);
  flush_output();
  if (plan_run(&b->plan, &b->options, load_run, b->text) == -1) {
    fprintf(stderr, "xchg-bench: cannot start the load: %s\n", strerror(errno));
    return BENCH_FAILED;
  }
  write_texts(b);
  if (write_files(b) == -1) {
    fputs("xchg-bench: out of memory while writing the reports\n", stderr);
    b->is_unwritten = true;
  }
  close_files(b);
  return judge(b);
}

static int run(struct bench *b, char **argv) {
  struct identity identity;
  identity_make(&identity, argv); /* before getopt permutes the arguments */
  switch (options_parse(&b->options, argv, stdout, stderr)) {
    case OPTIONS_DONE:
      return BENCH_OK;
    case OPTIONS_FAULT:
      return BENCH_USAGE;
    case OPTIONS_RUN:
      break;
  }
  b->options.identity = identity;
  b->first.fd = -1;
  b->options.first = &b->first;
  const bool ready = raise_descriptors(&b->options) == 0 && open_files(b) == 0;
  int code = ready ? measure(b) : BENCH_USAGE;
  close_files(b);
  if (b->first.fd != -1) {
    close(b->first.fd); /* a signal came before the run */
  }
  if (b->text != NULL && b->text != stdout) {
    fclose(b->text); /* /dev/null */
  }
  plan_fini(&b->plan);
  options_fini(&b->options);
  return code;
}

static int run_command(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "compare") == 0) {
    return compare_main(argc - 1, argv + 1);
  }
  if (argc > 1 && strcmp(argv[1], "merge") == 0) {
    return merge_main(argc - 1, argv + 1);
  }
  struct bench *b = calloc(1, sizeof(*b));
  if (b == NULL) {
    fputs("xchg-bench: out of memory\n", stderr);
    return BENCH_FAILED;
  }
  int code = run(b, argv);
  free(b);
  return code;
}

/* Write what is left of standard output. Return: the exit code of a command that gave ${code}. */
static int finish_output(int code) {
  flush_output();
  if (output_error == 0) {
    return code;
  }
  fprintf(stderr, "xchg-bench: cannot write to standard output: %s\n", strerror(output_error));
  return code == BENCH_INTERRUPTED || code == BENCH_USAGE ? code : BENCH_OUTPUT;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (streams_reserve() != -1) {
    fprintf(stderr, "xchg-bench: cannot open '/dev/null': %s\n", strerror(errno));
    return BENCH_FAILED;
  }
  return finish_output(run_command(argc, argv));
}
