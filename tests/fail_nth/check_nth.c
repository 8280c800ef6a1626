/*
 * check_nth: makes the Nth call fail.
 *
 *   check_nth [--every K]          everything, or each Kth run of it
 *   check_nth --call recv [--nth 17] [--errno ECONNRESET] [--persistent | --once]
 *             [--bytes 5] [--session library] [--verbose]
 *                                  these runs only; a failure prints the command that repeats it
 *
 * For each kind of call, each session and each errno of the table, N counts up from 1 until a run
 * in which nothing was left to fail.  The Nth call fails once, or it and all later ones do.  Reads
 * and writes are also shortened: the Nth to each size, and all of them to each size of a range.
 * The runs of one kind of call happen in a child process.  A crash costs one run, and the next
 * child continues after it.
 */
#include "core/base.h"
#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/cursor.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/log.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"
#include "tests/fail_nth/sessions.h"
#include "tests/fail_nth/in_flight.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX 120  /* of real time, for a run: more than in_flight.c waits */
#define FAULTS_MAX 5     /* of one kind of call, then the next kind follows */
#define SABOTAGE_MAX 12  /* N of a self-test, at most */
#define FIRST_OWN_FD 100 /* ... descriptor; the server owns those below */
#define EXIT_FAULT 2     /* of a child: a run has failed and its fault is printed */
#define RUNS_MIN 20000   /* in all; each kind of call has its part */

struct options {
  unsigned every;
  const char *call, *session, *error;
  unsigned nth;
  size_t bytes;
  bool persistent, once, verbose;
};

/* What the child tells the parent, and where the next child continues. */
struct shared {
  struct cursor cursor;
  struct spec spec;   /* the current run */
  bool single;        /* ... is the only one of its series */
  unsigned long runs; /* in which something failed */
};

static struct {
  const char *program; /* argv[0] */
  struct options options;
  struct shared *shared;
} all;

/* ---- naming a run ---- */

static const char *const sabotage_names[SABOTAGES] = {
    "memory is not freed",  "a mapping is not given back", "a descriptor is closed twice",
    "a descriptor is lost", "a byte is changed",           "a connection is not counted",
    "a wake-up is lost",
};

/* The command that repeats this run only. */
static void print_command(const struct spec *spec) {
  printf("  again: %s --call %s --nth %u", all.program, call_name(spec->call), spec->nth);
  if (spec->mode == MODE_SHORTEN || spec->mode == MODE_SHORTEN_ALL) {
    printf(" --bytes %zu", spec->bytes);
  } else {
    printf(" --errno %s", injected_name(spec->error));
  }
  printf(" --%s --session %s\n",
         spec->mode == MODE_FOREVER || spec->mode == MODE_SHORTEN_ALL ? "persistent" : "once",
         sessions[spec->session].name);
}

static void print_fault(const struct spec *spec, const char *what) {
  printf("nth: %s, N=%u, ", call_name(spec->call), spec->nth);
  if (spec->mode == MODE_SHORTEN || spec->mode == MODE_SHORTEN_ALL) {
    printf("%zu bytes, %s", spec->bytes, spec->mode == MODE_SHORTEN ? "once" : "persistent");
  } else if (spec->mode == MODE_SABOTAGE) {
    printf("%s", sabotage_names[spec->sabotage]);
  } else {
    printf("%s, %s", injected_name(spec->error),
           spec->mode == MODE_FOREVER ? "persistent" : "once");
  }
  printf(", session %s: %s\n", sessions[spec->session].name, what);
  if (spec->mode != MODE_SABOTAGE) {
    print_command(spec);
  }
  fflush(stdout);
}

/* ---- one run ---- */

static void check_end(enum scheduler_end end) {
  static const char *const words[] = {"", "hang: every thread waits for ever",
                                      "hang: a thread spins", "hang: ten minutes pass"};
  if (end != SCHEDULER_DONE) {
    ledger_fault("%s", words[end]);
  } else if (scheduler_alive() > 0) {
    ledger_fault("%u threads have not ended", scheduler_alive());
  }
}

/* Did the server remove its socket file? */
static void check_file(const struct spec *spec) {
  struct stat status;
  bool excused = spec->call == CALL_FSTATAT || spec->call == CALL_UNLINKAT;
  if (sessions_started() && !sessions[spec->session].no_file && !excused &&
      lstat(sessions_path(), &status) == 0) {
    ledger_fault("the socket file was not removed");
  }
}

/* Return: the fault, or NULL. */
static const char *run(const struct spec *spec) {
  const struct session *session = &sessions[spec->session];
  (void)alarm(SECONDS_MAX);
  scheduler_reset();
  clients_reset();
  log_reset();
  sessions_set_started(false);
  sessions_leave_stale_file();
  ledger_open(spec);
  scheduler_set_settle(session->tcp ? in_flight_settle : NULL);
  (void)scheduler_start(session->main, NULL);
  enum scheduler_end end = scheduler_run();
  check_end(end);
  if (end == SCHEDULER_DONE) {
    clients_check(sessions_started());
    check_file(spec);
    ledger_close();
  }
  (void)alarm(0);
  return ledger_fault_text();
}

/* ---- all runs of one kind of call ---- */

/* Does the command line ask for any run of this session and errno? */
static bool in_wanted_series(const struct spec *spec) {
  const struct options *o = &all.options;
  bool forever = spec->mode == MODE_FOREVER || spec->mode == MODE_SHORTEN_ALL;
  bool cut = spec->mode == MODE_SHORTEN || spec->mode == MODE_SHORTEN_ALL;
  return (o->session == NULL || strcmp(o->session, sessions[spec->session].name) == 0) &&
         (o->error == NULL || (!cut && strcmp(o->error, injected_name(spec->error)) == 0)) &&
         (!o->persistent || forever) && (!o->once || !forever) && (o->bytes == 0 || cut);
}

/* ... and for this one? */
static bool wanted(const struct spec *spec) {
  const struct options *o = &all.options;
  return in_wanted_series(spec) && (o->bytes == 0 || spec->bytes == o->bytes) &&
         (o->nth == 0 || spec->nth == o->nth || spec->mode == MODE_SHORTEN_ALL);
}

/* Advance to the next run. */
static void go_on(struct shared *shared, bool hit, unsigned count) {
  if (shared->single) {
    cursor_skip(&shared->cursor);
  } else {
    cursor_advance(&shared->cursor, hit, count);
  }
}

/* A run that is repeated starts at once, without those before it. */
static bool make_single(struct spec *spec) {
  const struct options *o = &all.options;
  bool cut = spec->mode == MODE_SHORTEN || spec->mode == MODE_SHORTEN_ALL;
  if (o->nth == 0 || (cut && o->bytes == 0)) {
    return false;
  }
  spec->nth = spec->mode == MODE_SHORTEN_ALL ? 1 : o->nth;
  spec->bytes = o->bytes;
  return true;
}

/* In the child: run after run, until one fails. */
static void run_all(void) {
  struct shared *shared = all.shared;
  struct spec *spec = &shared->spec;
  while (cursor_spec(&shared->cursor, spec)) {
    if (!in_wanted_series(spec)) {
      cursor_skip(&shared->cursor);
      continue;
    }
    shared->single = make_single(spec);
    bool asked = wanted(spec);
    const char *fault = run(spec); /* a run that was not asked for tells where its series ends */
    if (fault != NULL && asked) {
      print_fault(spec, fault);
      if (all.options.verbose) {
        printf("%s", log_text());
        fflush(stdout);
      }
      _exit(EXIT_FAULT); /* the kernel removes the fibers and descriptors of this run */
    }
    shared->runs += asked && ledger_hits() > 0;
    go_on(shared, ledger_hits() > 0, ledger_count(spec->call));
  }
}

/* Block in each fiber what the daemon blocks in each thread that it starts. */
static void block_signals(void) {
  static const int blocked[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGCHLD};
  sigset_t set;
  sigemptyset(&set);
  for (size_t i = 0; i < count_of(blocked); i++) {
    sigaddset(&set, blocked[i]);
  }
  (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Run ${body} in a child. Return: its status, as waitpid has it. */
static int in_child(void (*body)(void)) {
  int status = 0;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    block_signals();
    (void)close_range(STDERR_FILENO + 1, FIRST_OWN_FD - 1,
                      0); /* descriptors that the calling program left open */
    in_flight_open();
    body();
    exit(0);
  }
  if (pid == -1 || waitpid(pid, &status, 0) != pid) {
    perror("fork");
    exit(1);
  }
  return status;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Return: was there no fault? */
static bool test_call(enum nth_call call) {
  struct shared *shared = all.shared;
  unsigned long before = shared->runs;
  double begun = seconds();
  unsigned faults = 0;
  shared->cursor = (struct cursor){.call = call, .every = all.options.every};
  cursor_begin(&shared->cursor);
  for (; faults < FAULTS_MAX; faults++) {
    int status = in_child(run_all);
    if (status == 0) {
      break;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_FAULT) {
      char what[64];
      snprintf(what, sizeof(what), "crash: %s",
               WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit");
      print_fault(&shared->spec, what);
    }
    go_on(shared, true, UINT_MAX);
  }
  unsigned long runs = shared->runs - before;
  bool enough = runs > 0 || faults > 0 || all.options.every > 1; /* one run in K may be none */
  bool well = faults == 0 && enough;
  printf("%-4s %-22s %6lu runs (%.1f s)%s\n", well ? "ok" : "FAIL", call_name(call), runs,
         seconds() - begun, enough ? "" : ": nothing was made to fail");
  return well;
}

/* Did all runs together reach RUNS_MIN? */
static bool test_total(void) {
  bool well = all.shared->runs >= RUNS_MIN;
  printf("%-4s %lu runs in all, at least %d are required\n", well ? "ok" : "FAIL", all.shared->runs,
         RUNS_MIN);
  return well;
}

/* ---- self-test: can the checks fail? ---- */

static struct spec sabotaged;

static void run_sabotaged(void) {
  const char *fault = run(&sabotaged);
  if (ledger_hits() == 0) {
    exit(0);
  }
  if (fault != NULL && all.options.verbose) {
    print_fault(&sabotaged, fault);
  }
  _exit(fault != NULL ? EXIT_FAULT : 1);
}

/* Sabotage each session at each N, and count how often that is noticed. */
static bool test_sabotage(enum sabotage sabotage) {
  unsigned done = 0, noticed = 0;
  for (unsigned i = 0; i < sessions_count; i++) {
    int status = 1;
    for (unsigned n = 1; n <= SABOTAGE_MAX && status != 0; n++) {
      sabotaged =
          (struct spec){.session = i, .mode = MODE_SABOTAGE, .sabotage = sabotage, .nth = n};
      status = in_child(run_sabotaged);
      done += status != 0;
      noticed += WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAULT;
    }
  }
  /* Some of these have no effect: the client has gone, or the woken thread was awake. */
  bool some = sabotage == SABOTAGE_BYTE || sabotage == SABOTAGE_WAKE;
  bool well = done > 0 && (some ? noticed > 0 : noticed == done);
  printf("%-4s self-test: %s: noticed %u times of %u\n", well ? "ok" : "FAIL",
         sabotage_names[sabotage], noticed, done);
  return well;
}

/* ---- the command line ---- */

static void print_usage(FILE *to) {
  fprintf(
      to,
      "usage: check_nth [--every K] [--verbose]\n"
      "       check_nth --call NAME [--nth N] [--errno NAME | --bytes N] [--once | --persistent]\n"
      "                 [--session NAME] [--verbose]\n"
      "Makes each call of each session fail in turn, or one in K of them, or one kind of call.\n"
      "Calls:");
  for (int i = 0; i < CALLS; i++) {
    fprintf(to, " %s", call_name((enum nth_call)i));
  }
  fprintf(to, "\nSessions:");
  for (unsigned i = 0; i < sessions_count; i++) {
    fprintf(to, " %s", sessions[i].name);
  }
  fprintf(to, "\n");
}

/* Keep one option. Return: is it known? */
static bool take_option(struct options *options, int option) {
  switch (option) {
    case 'e':
      options->every = (unsigned)strtoul(optarg, NULL, 10);
      return true;
    case 'c':
      options->call = optarg;
      return true;
    case 's':
      options->session = optarg;
      return true;
    case 'r':
      options->error = optarg;
      return true;
    case 'n':
      options->nth = (unsigned)strtoul(optarg, NULL, 10);
      return true;
    case 'b':
      options->bytes = strtoul(optarg, NULL, 10);
      return true;
    case 'p':
      return options->persistent = true;
    case 'o':
      return options->once = true;
    case 'v':
      return options->verbose = true;
    case 'h':
      print_usage(stdout);
      exit(0);
    default:
      return false;
  }
}

static bool read_options(int argc, char **argv) {
  static const struct option names[] = {{"every", required_argument, NULL, 'e'},
                                        {"call", required_argument, NULL, 'c'},
                                        {"session", required_argument, NULL, 's'},
                                        {"errno", required_argument, NULL, 'r'},
                                        {"nth", required_argument, NULL, 'n'},
                                        {"bytes", required_argument, NULL, 'b'},
                                        {"persistent", no_argument, NULL, 'p'},
                                        {"once", no_argument, NULL, 'o'},
                                        {"verbose", no_argument, NULL, 'v'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  struct options *o = &all.options;
  const char *every = getenv("FAIL_NTH_EVERY");
  o->every = every == NULL ? 1 : (unsigned)strtoul(every, NULL, 10);
  for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    if (!take_option(o, option)) {
      return false;
    }
  }
  o->every = o->every == 0 || o->nth > 0 ? 1 : o->every;
  return optind == argc;
}

int main(int argc, char **argv) {
  char in_memory[] = "/dev/shm/xchg-nth-XXXXXX", on_disk[] = "/tmp/xchg-nth-XXXXXX";
  unsigned tests = 0, failed = 0;
  all.program = argv[0];
  all.shared =
      mmap(NULL, sizeof(*all.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!read_options(argc, argv) || all.shared == MAP_FAILED) {
    print_usage(stderr);
    return 64;
  }
  const char *folder = mkdtemp(in_memory) != NULL ? in_memory : mkdtemp(on_disk);
  if (folder == NULL) {
    perror("mkdtemp");
    return 1;
  }
  (void)umask(022); /* so that a mode of 0666 needs chmod */
  sessions_set_folder(folder);
  for (int i = 0; i < CALLS; i++) {
    if (all.options.call == NULL || strcmp(all.options.call, call_name((enum nth_call)i)) == 0) {
      tests++;
      failed += !test_call((enum nth_call)i);
    }
  }
  if (all.options.call == NULL && all.options.every == 1) {
    tests++;
    failed += !test_total();
  }
  for (int i = 0; i < SABOTAGES && all.options.call == NULL && all.options.every == 1; i++) {
    tests++;
    failed += !test_sabotage((enum sabotage)i);
  }
  (void)unlink(sessions_path());
  (void)rmdir(folder);
  printf("injected runs: %lu\n", all.shared->runs);
  printf("%u%%: Checks: %u, Failures: %u, Errors: 0\n",
         tests == 0 ? 0 : 100 * (tests - failed) / tests, tests, failed);
  return failed > 0 || tests == 0;
}
