/*
 * check_options: every option is read, every fault is one line, and contradictions are refused.
 *
 * A test writes a command line as one text, which is split at blanks.
 */
#include "xchg-bench/options.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 64

/* The result of one parse. */
struct parsed {
  struct options options;
  enum options_outcome outcome;
  char *out, *errors;
};

static void parse(struct parsed *p, const char *line) {
  char copy[2048], *argv[WORDS_MAX] = {(char *)"xchg-bench"};
  size_t size, count = 1;
  ck_assert_uint_lt(strlen(line), sizeof(copy));
  memcpy(copy, line, strlen(line) + 1);
  for (char *rest = copy, *word; (word = strsep(&rest, " ")) != NULL;) {
    ck_assert_uint_lt(count, WORDS_MAX - 1);
    argv[count++] = word;
  }
  FILE *out = open_memstream(&p->out, &size), *errors = open_memstream(&p->errors, &size);
  p->outcome = options_parse(&p->options, argv, out, errors);
  fclose(out);
  fclose(errors);
}

static void forget(struct parsed *p) {
  if (p->outcome == OPTIONS_RUN) {
    options_fini(&p->options);
  }
  free(p->out);
  free(p->errors);
}

/* Parse a valid line. Return: its options; the paths in them are no longer valid. */
static struct options *take(struct parsed *p, const char *line) {
  parse(p, line);
  ck_assert_msg(p->outcome == OPTIONS_RUN, "'%s': %s", line, p->errors);
  ck_assert_str_eq(p->errors, "");
  ck_assert_str_eq(p->out, "");
  return &p->options;
}

/* Expect that ${line} is refused with one line that contains ${why}. */
static void refuse(const char *line, const char *why) {
  struct parsed p;
  parse(&p, line);
  ck_assert_msg(p.outcome == OPTIONS_FAULT, "'%s' is taken", line);
  ck_assert_msg(strncmp(p.errors, "xchg-bench: ", 12) == 0, "'%s': %s", line, p.errors);
  char *end = strchr(p.errors, '\n');
  ck_assert_msg(end != NULL && end[1] == 0, "'%s' is not one line: %s", line, p.errors);
  ck_assert_msg(strstr(p.errors, why) != NULL, "'%s' does not say '%s': %s", line, why, p.errors);
  forget(&p);
}

START_TEST(defaults_are_set) {
  struct parsed p;
  struct options *o = take(&p, "127.0.0.1:7000");
  ck_assert_str_eq(o->target, "127.0.0.1:7000");
  ck_assert_int_eq(o->address.addr.family, ADDR_IPV4);
  ck_assert_uint_eq(o->address.addr.port, 7000);
  ck_assert_uint_eq(o->threads, 2);
  ck_assert_uint_eq(o->connections, 10);
  ck_assert_uint_eq(o->duration_ns, 10 * NS_PER_S);
  ck_assert_uint_eq(o->warmup_ns, 0);
  ck_assert_uint_eq(o->timeout_ns, 2 * NS_PER_S);
  ck_assert_uint_eq(o->count, 0);
  ck_assert(o->rate == 0);
  ck_assert_int_eq(o->size.kind, SIZE_FIXED);
  ck_assert_uint_eq(o->size.a, 64);
  ck_assert_uint_eq(o->pipeline, 1);
  ck_assert_uint_eq(o->reconnect, 0);
  ck_assert_uint_eq(o->seed, 1);
  ck_assert_uint_eq(o->repeat, 1);
  ck_assert_uint_eq(o->idle, 0);
  ck_assert_int_eq(o->exchange.exchange, EXCHANGE_GREET);
  ck_assert(o->exchange.has_greeting);
  ck_assert_uint_eq(o->exchange.messages, 1);
  ck_assert(!o->percentiles && !o->uncorrected && !o->ramp && !o->search);
  forget(&p);
}
END_TEST

START_TEST(letters_are_read) {
  struct parsed p;
  struct options *o =
      take(&p, "-t 4 -c 100 -d 30s -R 1.5k -T 5s -w 1s -x echo -p 16 -L -U [::1]:7000");
  ck_assert_uint_eq(o->threads, 4);
  ck_assert_uint_eq(o->connections, 100);
  ck_assert_uint_eq(o->duration_ns, 30 * NS_PER_S);
  ck_assert_double_eq_tol(o->rate, 1500, 1e-9);
  ck_assert_uint_eq(o->timeout_ns, 5 * NS_PER_S);
  ck_assert_uint_eq(o->warmup_ns, NS_PER_S);
  ck_assert_int_eq(o->exchange.exchange, EXCHANGE_ECHO);
  ck_assert_uint_eq(o->pipeline, 16);
  ck_assert(o->percentiles && o->uncorrected);
  ck_assert_int_eq(o->address.addr.family, ADDR_IPV6);
  forget(&p);
}
END_TEST

START_TEST(long_names_are_read) {
  struct parsed p;
  struct options *o =
      take(&p,
           "127.0.0.1:1 --threads=1 --connections 3 --duration 2 --rate 10 --exchange LINE "
           "--frame line --greeting hello --reply text:bye --messages 2 --size uniform:16,1k "
           "--warmup 1ms --timeout 1m --seed 42 --idle 5 --latency --uncorrected --repeat 3 "
           "--slo p99<5ms,errors=0 --bind 127.0.0.1,127.0.0.2 --proxy v2,crc32c,authority=a "
           "--json a --csv b --hdr c --html d");
  ck_assert_uint_eq(o->threads, 1);
  ck_assert_uint_eq(o->connections, 3);
  ck_assert_uint_eq(o->duration_ns, 2 * NS_PER_S);
  ck_assert_uint_eq(o->exchange.greeting.size, 5);
  ck_assert_uint_eq(o->exchange.reply_text.size, 3);
  ck_assert_uint_eq(o->exchange.messages, 2);
  ck_assert_int_eq(o->size.kind, SIZE_UNIFORM);
  ck_assert_uint_eq(o->size.a, 16);
  ck_assert_uint_eq(o->size.b, 1000);
  ck_assert_uint_eq(o->seed, 42);
  ck_assert_uint_eq(o->idle, 5);
  ck_assert_uint_eq(o->repeat, 3);
  ck_assert_uint_eq(o->slo_count, 2);
  ck_assert_uint_eq(o->bind_count, 2);
  ck_assert_uint_eq(o->proxy.version, 2);
  ck_assert(o->proxy.crc32c && !o->proxy.unique_id);
  ck_assert_str_eq(o->proxy.authority, "a");
  ck_assert_uint_eq(o->bind[1].bytes[3], 2);
  ck_assert(o->json != NULL && o->csv != NULL && o->hdr != NULL && o->html != NULL);
  forget(&p);
}
END_TEST

START_TEST(ramps_steps_and_searches_are_read) {
  struct parsed p;
  struct options *o = take(&p, "--ramp 1k:10k:30s 127.0.0.1:1");
  ck_assert(o->ramp);
  ck_assert_double_eq_tol(o->ramp_from, 1000, 1e-9);
  ck_assert_double_eq_tol(o->ramp_to, 10000, 1e-9);
  ck_assert_uint_eq(o->ramp_ns, 30 * NS_PER_S);
  forget(&p);
  o = take(&p, "--step 1k,2k,4.5k@10s 127.0.0.1:1");
  ck_assert_uint_eq(o->steps, 3);
  ck_assert_double_eq_tol(o->step_rate[2], 4500, 1e-9);
  ck_assert_uint_eq(o->step_ns, 10 * NS_PER_S);
  forget(&p);
  o = take(&p, "--search p99<2ms -d 5s 127.0.0.1:1");
  ck_assert(o->search);
  ck_assert_str_eq(o->search_objective.text, "p99<2ms");
  forget(&p);
}
END_TEST

START_TEST(values_follow_from_others) {
  struct parsed p;
  ck_assert_uint_eq(take(&p, "-c 1 127.0.0.1:1")->threads, 1);
  forget(&p);
  ck_assert_uint_eq(take(&p, "-n 5 127.0.0.1:1")->duration_ns, NEVER);
  forget(&p);
  ck_assert_uint_eq(take(&p, "-n 5 -d 3s 127.0.0.1:1")->duration_ns, 3 * NS_PER_S);
  forget(&p);
  ck_assert_uint_eq(take(&p, "-x echo --frame fixed:128 127.0.0.1:1")->size.a, 128);
  forget(&p);
  struct options *o = take(&p, "-x echo --reconnect 5 --size exp:200 127.0.0.1:1");
  ck_assert_uint_eq(o->reconnect, 5);
  ck_assert_int_eq(o->size.kind, SIZE_EXPONENTIAL);
  forget(&p);
}
END_TEST

START_TEST(targets_are_read) {
  struct parsed p;
  struct options *o = take(&p, "unix:/run/x.sock");
  ck_assert_int_eq(o->address.addr.family, ADDR_UNIX);
  ck_assert_str_eq(o->address.path, "/run/x.sock");
  forget(&p);
  o = take(&p, "localhost:7000");
  ck_assert(o->address.addr.family == ADDR_IPV4 || o->address.addr.family == ADDR_IPV6);
  ck_assert_uint_eq(o->address.addr.port, 7000);
  forget(&p);
}
END_TEST

START_TEST(targets_that_cannot_be_reached_are_refused) {
  static const char *const targets[] = {"localhost",
                                        "localhost:",
                                        "localhost:0",
                                        "localhost:65536",
                                        "localhost:http",
                                        ":7000",
                                        "127.0.0.1:0",
                                        "127.0.0.1",
                                        "[::1]",
                                        "[::1:7000",
                                        "::1:7000",
                                        "unix:relative",
                                        "unix:",
                                        "unix:/x;mode=0660",
                                        "localhost:123456",
                                        ""};
  for (size_t i = 0; i < count_of(targets); i++) {
    refuse(targets[i], "want");
  }
  refuse("http://127.0.0.1:80/", "no HTTP client");
  refuse("no-such-host.invalid:7000", "no-such-host.invalid");
  refuse("-c 1", "one ADDRESS");
  refuse("127.0.0.1:1 127.0.0.1:2", "one ADDRESS");
}
END_TEST

/* Expect that each of ${lines}, followed by an address, is refused with "want". */
static void refuse_each(const char *const *lines, size_t count) {
  for (size_t i = 0; i < count; i++) {
    char line[256];
    snprintf(line, sizeof(line), "%s 127.0.0.1:1", lines[i]);
    refuse(line, "want");
  }
}

START_TEST(values_out_of_range_are_refused) {
  static const char *const lines[] = {"-t 0",
                                      "-t 1025",
                                      "-t x",
                                      "-c 0",
                                      "-c 1.5",
                                      "-c 2M",
                                      "-d 0",
                                      "-d 1x",
                                      "-n 0",
                                      "-n -1",
                                      "-R 0",
                                      "-R 0.99",
                                      "-R 2G",
                                      "-R x",
                                      "-p 0",
                                      "-p 1025",
                                      "--reconnect 0",
                                      "-w x",
                                      "-w -1s",
                                      "-T 0",
                                      "--seed -1",
                                      "--seed 1k",
                                      "--bind 127.0.0",
                                      "--bind 127.0.0.1,",
                                      "--bind host",
                                      "--proxy v3",
                                      "--proxy v1,crc32c",
                                      "--proxy v2,authority=",
                                      "--idle x",
                                      "--idle 2M",
                                      "--pid 0",
                                      "--pid x",
                                      "--pid 1,",
                                      "--size x",
                                      "--size uniform:5",
                                      "--size uniform:5,4",
                                      "--size uniform:1,2,3",
                                      "--size exp:0",
                                      "--size exp:x",
                                      "--size 2GiB",
                                      "--size uniform:1,2GiB"};
  refuse_each(lines, count_of(lines));
  refuse("--pid 2147483647 127.0.0.1:1", "no such process");
  refuse("--proxy v2,authority=\x1b[m 127.0.0.1:1",
         "--proxy 'v2,authority=\\x1b[m': want none, v1, or v2");
}
END_TEST

START_TEST(shapes_and_exchanges_that_are_none_are_refused) {
  static const char *const lines[] = {
      "--search x",      "--search p99",      "--ramp 1:2",      "--ramp 0:2:1s",  "--ramp 1:2:0",
      "--ramp 1:2:1s:4", "--step 1",          "--step 1,2",      "--step @1s",     "--step 1,@1s",
      "--step 0@1s",     "--step 1@0",        "--step ,1@1s",    "--step 1,,2@1s", "--step 1@1s@2s",
      "--slo x",         "--slo p99<5ms,",    "--repeat 0",      "--repeat 1001",  "--messages -1",
      "--messages x",    "--frame x",         "--frame fixed:0", "--reply x",      "--greeting \\q",
      "-x http",         "--frame fixed:2GiB"};
  refuse_each(lines, count_of(lines));
}
END_TEST

START_TEST(names_of_options_are_checked) {
  refuse("-z 127.0.0.1:1", "'-z'");
  refuse("--nope 127.0.0.1:1", "'--nope'");
  refuse("--latency=5 127.0.0.1:1", "no argument");
  refuse("127.0.0.1:1 -t", "want an argument");
  refuse("127.0.0.1:1 --json", "want an argument");
  refuse("--json= 127.0.0.1:1", "want the path");
  refuse("-H X:1 127.0.0.1:1", "no HTTP client");
  refuse("-s a.lua 127.0.0.1:1", "no scripts");
  refuse("--x\ny 127.0.0.1:7000", "unknown option '--x\\x0ay'");
  refuse("1.1\n:1", "'1.1\\x0a:1': ");
}
END_TEST

START_TEST(exchange_faults_speak_of_options) {
  refuse("--frame crlf 127.0.0.1:1", "--frame 'crlf'");
  refuse("-x http 127.0.0.1:1", "--exchange 'http'");
  refuse("--frame line --greeting a\\nb 127.0.0.1:1", "--greeting");
  refuse("--frame fixed:4 --greeting none --reply text:abc 127.0.0.1:1", "--frame fixed:4");
  struct parsed p;
  parse(&p, "--frame fixed:4 --greeting none --reply text:abc 127.0.0.1:1");
  ck_assert_ptr_null(strstr(p.errors, "XCHG_"));
  forget(&p);
}
END_TEST

START_TEST(what_cannot_work_together_is_refused) {
  refuse("-p 4 127.0.0.1:1", "--pipeline");
  refuse("-x line -p 2 127.0.0.1:1", "--pipeline");
  refuse("-x line --messages 3 -p 4 127.0.0.1:1", "--pipeline");
  refuse("-x echo --messages 5 -p 2 127.0.0.1:1", "merge");
  refuse("-x echo --reply text:x -p 2 127.0.0.1:1", "merge");
  refuse("--reconnect 5 127.0.0.1:1", "--reconnect");
  refuse("-R 10 --search p99<1ms 127.0.0.1:1", "--search");
  refuse("-R 10 --ramp 1:2:1s 127.0.0.1:1", "--ramp");
  refuse("--ramp 1:2:1s --step 1@1s 127.0.0.1:1", "--step");
  refuse("--step 1@1s --search errors=0 127.0.0.1:1", "--search");
  refuse("-U 127.0.0.1:1", "--uncorrected");
  refuse("--fail-fast 127.0.0.1:1", "needs the objectives");
  refuse("--fail-fast --slo errors=0 --repeat 2 127.0.0.1:1", "--repeat");
  refuse("--fail-fast --slo errors=0 --search p99<1ms 127.0.0.1:1", "--search");
  refuse("-n 5 --ramp 1:2:1s 127.0.0.1:1", "--count");
  refuse("-d 5s --step 1@1s 127.0.0.1:1", "--duration");
  refuse("--repeat 2 --search errors=0 127.0.0.1:1", "--repeat");
  refuse("--repeat 2 --step 1@1s 127.0.0.1:1", "--repeat");
  refuse("--search rate>5 127.0.0.1:1", "--search");
  refuse("-x discard --search p99<1ms 127.0.0.1:1", "no latency");
  refuse("-x discard --slo errors=0,p99<1ms 127.0.0.1:1", "no latency");
  refuse("-t 4 -c 3 127.0.0.1:1", "--threads");
  refuse("-x echo --frame fixed:8 --size 9 127.0.0.1:1", "--size");
  refuse("-x echo --frame fixed:8 --size uniform:1,8 127.0.0.1:1", "--size");
  refuse("-x echo --frame fixed:8 --size exp:8 127.0.0.1:1", "--size");
  refuse("-x echo --frame u16 --size 65536 127.0.0.1:1", "--size");
  refuse("-x echo --size 0 127.0.0.1:1", "--size");
  refuse("--bind ::1 127.0.0.1:1", "family");
  refuse("--bind 127.0.0.1 unix:/x", "family");
  refuse("--bind 127.0.0.1 -c 10001 127.0.0.1:1", "10000");
  refuse("--bind 127.0.0.1 -c 1 --idle 10000 127.0.0.1:1", "10000");
  refuse("--json a --csv a 127.0.0.1:1", "--csv");
}
END_TEST

START_TEST(what_just_works_together_is_taken) {
  static const char *const lines[] = {"-x line --messages 4 -p 4 127.0.0.1:1",
                                      "-x echo -p 1024 127.0.0.1:1",
                                      "-x echo --frame u16 --size 65535 127.0.0.1:1",
                                      "-x echo --frame fixed:8 --size 8 127.0.0.1:1",
                                      "--size 0 127.0.0.1:1",
                                      "-x discard --slo errors=0,rate>1 127.0.0.1:1",
                                      "--bind 127.0.0.1 -c 10000 127.0.0.1:1",
                                      "-U --step 1@1s 127.0.0.1:1",
                                      "-R 1 -t 2 127.0.0.1:1",
                                      "--json /dev/null --csv /dev/null 127.0.0.1:1"};
  for (size_t i = 0; i < count_of(lines); i++) {
    struct parsed p;
    take(&p, lines[i]);
    forget(&p);
  }
}
END_TEST

START_TEST(processes_are_looked_up) {
  struct parsed p;
  char line[64];
  snprintf(line, sizeof(line), "--pid %d,%d 127.0.0.1:1", (int)getpid(), (int)getppid());
  struct options *o = take(&p, line);
  ck_assert_uint_eq(o->pids_count, 2);
  ck_assert_int_eq(o->pids[0], getpid());
  forget(&p);
}
END_TEST

START_TEST(help_and_version_are_written) {
  struct parsed p;
  parse(&p, "--help");
  ck_assert_int_eq(p.outcome, OPTIONS_DONE);
  ck_assert_str_eq(p.errors, "");
  static const char *const names[] = {"-t, --threads",  "-c, --connections",
                                      "-d, --duration", "-n, --count",
                                      "-R, --rate",     "-x, --exchange",
                                      "--frame",        "--greeting",
                                      "--reply",        "--messages",
                                      "--size",         "-p, --pipeline",
                                      "--reconnect",    "-w, --warmup",
                                      "-T, --timeout",  "--seed",
                                      "--bind",         "--proxy",
                                      "--idle",         "-L, ",
                                      "-U, ",           "--pid",
                                      "--search",       "--ramp",
                                      "--step",         "--slo",
                                      "--repeat",       "--json",
                                      "--csv",          "--hdr",
                                      "--html",         "compare",
                                      "merge",          "ADDRESS"};
  for (size_t i = 0; i < count_of(names); i++) {
    ck_assert_msg(strstr(p.out, names[i]) != NULL, "no %s in --help", names[i]);
  }
  forget(&p);
  parse(&p, "-t 0 --version");
  ck_assert_int_eq(p.outcome, OPTIONS_FAULT);
  forget(&p);
  parse(&p, "--version");
  ck_assert_int_eq(p.outcome, OPTIONS_DONE);
  ck_assert_int_eq(strncmp(p.out, "xchg-bench ", 11), 0);
  forget(&p);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {defaults_are_set, 1},
      {letters_are_read, 1},
      {long_names_are_read, 1},
      {ramps_steps_and_searches_are_read, 1},
      {values_follow_from_others, 1},
      {targets_are_read, 1},
      {targets_that_cannot_be_reached_are_refused, 1},
      {values_out_of_range_are_refused, 1},
      {shapes_and_exchanges_that_are_none_are_refused, 1},
      {names_of_options_are_checked, 1},
      {exchange_faults_speak_of_options, 1},
      {what_cannot_work_together_is_refused, 1},
      {what_just_works_together_is_taken, 1},
      {processes_are_looked_up, 1},
      {help_and_version_are_written, 1},
  };
  return run_suite("options", tests, count_of(tests));
}
